"""Build an official CUDA package from its source for this machine's GPU alone, within a time limit.

    python build.py PACKAGE.tar.gz SITE --seconds 900

The setup.py of causal-conv1d and of mamba-ssm lists eight architectures or more. All but that of this GPU are removed,
which cuts the build from half an hour to minutes. Installs into the folder SITE, for PYTHONPATH.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PAIR = re.compile(r'^(\s*)cc_flag\.append\("-gencode"\)\n\s*cc_flag\.append\("arch=compute_(\w+),code=sm_\w+"\)$', re.M)


def one_architecture(setup, wanted):
    """The text of setup.py for one architecture. `pass` replaces the lines of the others, so that no block is empty."""
    kept = []

    def replace(match):
        indent, arch = match.groups()
        if arch == wanted:
            kept.append(arch)
            return match.group(0)
        return f"{indent}pass  # {arch}"

    text = PAIR.sub(replace, setup)
    return text if kept else setup  # a setup.py of another layout is left as it is


def architecture():
    import torch

    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("site", type=Path)
    parser.add_argument("--seconds", type=int, default=900)
    args = parser.parse_args()
    arch = architecture()
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(args.package) as archive:
            archive.extractall(folder, filter="data")
        (root,) = Path(folder).iterdir()
        setup = root / "setup.py"
        setup.write_text(one_architecture(setup.read_text(), arch))
        variables = {"TORCH_CUDA_ARCH_LIST": f"{arch[:-1]}.{arch[-1]}", "NVCC_THREADS": "1"}
        variables |= {"CAUSAL_CONV1D_FORCE_BUILD": "TRUE", "MAMBA_FORCE_BUILD": "TRUE"}
        install = ["-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index", "--target", str(args.site)]
        try:
            done = subprocess.run([sys.executable, *install, str(root)], env=os.environ | variables, timeout=args.seconds)
        except subprocess.TimeoutExpired:
            sys.exit(f"{args.package.name}: not built within {args.seconds} s")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()

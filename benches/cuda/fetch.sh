#!/usr/bin/env bash
# Downloads the source packages of mamba-ssm and causal-conv1d, to be built on a GPU machine without a network. PYTHON
# names a Python with torch, setuptools, wheel and packaging, which their setup.py imports even to print the package's
# metadata.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p packages
export CAUSAL_CONV1D_SKIP_CUDA_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE
fetch="${PYTHON:-python3} -m pip download --quiet --no-deps --no-build-isolation --dest packages"
$fetch --no-binary :all: causal-conv1d mamba-ssm
$fetch einops
ls -l packages

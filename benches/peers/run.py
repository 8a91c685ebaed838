#!/usr/bin/env python3
"""Training steps and operators of rowscan, Burn and PyTorch in turn on the same cores.

    benches/peers/run.py OUT [--cores 1] [--rounds 3] [--case NAME ...]
    benches/peers/run.py OUT --table                                          prints the table of OUT again

Appends to OUT/peers.jsonl one line for each program, case and round, with CPU time and wall time of the process: they are
equal when nothing else ran on its core. An empty --rowscan, --burn or --python leaves that program out. rowscan and Burn
run on the Mesa that `cargo xtask bench-cpu` unpacks, or on --mesa FOLDER, or, with --mesa "", on what VK_DRIVER_FILES
names.

    cargo build --release
    cargo build --release --manifest-path benches/peers/burn/Cargo.toml --target-dir target/peers
    python -m venv /tmp/venv && /tmp/venv/bin/pip install torch torchvision safetensors
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def throughput(model):
    return ["--throughput", "--train", "--model", model, "--batch-size", "8"]


def operators(family, *shape):
    return ["--family", family, "--quick", "--wall", *shape]


SHAPE = ["--size", "small", "--tokens", "208"]
# what runs in one process: arguments of `rowscan bench`, and our (case, direction) by the peers' names
GROUPS = {
    "resnet50": (throughput("resnet50_64"), {"resnet50": ("resnet50_64", "training")}),
    "convnext_tiny": (throughput("convnext_tiny_64"), {"convnext_tiny": ("convnext_tiny_64", "training")}),
    "map_micro": (operators("step", "--batch", "16"), {"map_micro": ("micro 32x16", "training")}),
    "gelu": (
        operators("activation", *SHAPE, "--batch", "2", "--batch", "16"),
        {
            "gelu_319488": ("gelu small 208x2", "forward"),
            "gelu_backward_319488": ("gelu small 208x2", "backward"),
            "gelu_2555904": ("gelu small 208x16", "forward"),
            "gelu_backward_2555904": ("gelu small 208x16", "backward"),
        },
    ),
    "adamw": (operators("adamw"), {"adamw_1000000": ("step tiny/9", "forward")}),
}
# a scan in WGSL would have to be written for it
NOT_IN_BURN = {"map_micro"}


class Machine:
    """The cores, and how programs on the GPU's driver are started."""

    def __init__(self, cores, mesa):
        threads = str(len(os.sched_getaffinity(0) & cores))
        self.pin = ["taskset", "-c", ",".join(map(str, sorted(cores)))]
        names = ("LP_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
        self.env = os.environ | {name: threads for name in names} | {"MESA_SHADER_CACHE_DISABLE": "1"}
        self.threads, self.loader = threads, []
        if mesa:
            libraries = Path(mesa) / f"usr/lib/{platform.machine()}-linux-gnu"
            self.loader = [str(next(libraries.glob("ld-linux*"))), "--library-path", str(libraries)]
            self.env["VK_DRIVER_FILES"] = str(Path(mesa) / "usr/share/vulkan/icd.d/lvp_icd.json")

    def run(self, command):
        """Standard output of a command, and its seconds of CPU and of wall time."""
        cpu = lambda usage: usage.ru_utime + usage.ru_stime
        before, start = cpu(resource.getrusage(resource.RUSAGE_CHILDREN)), time.monotonic()
        done = subprocess.run(self.pin + command, env=self.env, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        cpu_s = cpu(resource.getrusage(resource.RUSAGE_CHILDREN)) - before
        return done.stdout, {"cpu_s": round(cpu_s, 2), "wall_s": round(time.monotonic() - start, 2)}


def ours(args, machine, group):
    bench, names = GROUPS[group]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.json"
        if "--throughput" in bench:
            bench = [*bench, "--warm-up", str(args.warm_up), "--steps", str(args.steps)]
        _, used = machine.run([*machine.loader, args.rowscan, "bench", *bench, "--json", str(file)])
        report = json.loads(file.read_text())
    rows = {(row.get("case") or row["model"], row["direction"]): row for row in report["rows"]}
    for name, key in names.items():
        kept = {k: rows[key][k] for k in ("ms", "ms_min", "samples", "parameters") if k in rows[key]}
        about = {"implementation": f"rowscan {report['commit']}", "case": name, "driver": report["driver"]}
        yield about | kept | used


def peer(args, machine, group, program):
    names = [name for name in GROUPS[group][1] if program is not args.burn or name not in NOT_IN_BURN]
    if not program or not names:
        return
    command = [*machine.loader, args.burn] if program is args.burn else [args.python, str(HERE / "torch_step.py")]
    threads = [] if program is args.burn else ["--threads", machine.threads]
    # a step of an operator is short
    steps = args.steps if group in ("resnet50", "convnext_tiny", "map_micro") else 50
    text, used = machine.run([*command, *names, "--warm-up", str(args.warm_up), "--steps", str(steps), *threads])
    yield from (json.loads(line) | used for line in text.splitlines() if line.startswith("{"))


def table(path):
    found = {}
    for row in map(json.loads, path.read_text().splitlines()):
        found.setdefault(row["case"], {}).setdefault(row["implementation"].split()[0], []).append(row)
    print("| case | | ms: minimum, median, maximum of the rounds' medians | times ours | CPU time / wall time |")
    print("|---|---|--:|--:|--:|")
    for case, programs in found.items():
        medians = {name: sorted(row["ms"] for row in rows) for name, rows in programs.items()}
        for name, each in medians.items():
            ratio = ""
            if "rowscan" in medians:
                ratio = f"{statistics.median(each) / statistics.median(medians['rowscan']):.2f}"
            busy = min(row["cpu_s"] / row["wall_s"] for row in programs[name])
            times = ", ".join(f"{ms:.3g}" if ms < 100 else f"{ms:.0f}" for ms in (each[0], statistics.median(each), each[-1]))
            print(f"| `{case}` | {name} | {times} | {ratio} | {busy:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--cores", default="0", help="as taskset takes them: a list with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--case", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--rowscan", default=str(ROOT / "target/release/rowscan"))
    parser.add_argument("--burn", default=str(ROOT / "target/peers/release/rowscan-peer-burn"))
    parser.add_argument("--python", default="python3", help="one with torch, torchvision and safetensors")
    parser.add_argument("--mesa", default=str(ROOT / "target/mesa/root"), help="the root of an unpacked Mesa")
    args = parser.parse_args()
    path = args.out / "peers.jsonl"
    if not args.table:
        args.out.mkdir(parents=True, exist_ok=True)
        machine = Machine({int(core) for core in args.cores.split(",")}, args.mesa)
        for round_ in range(args.rounds):
            for group in args.case:
                programs = [peer(args, machine, group, program) for program in (args.burn, args.python)]
                if args.rowscan:
                    programs.insert(0, ours(args, machine, group))
                for rows in programs:
                    for row in rows:
                        with path.open("a") as file:
                            file.write(json.dumps(row | {"round": round_}) + "\n")
    table(path)


if __name__ == "__main__":
    main()

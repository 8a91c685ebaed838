"""Shared by all CUDA references: versions, the clock, comparison, and the JSON that compare.py reads."""

import importlib.metadata
import json
import platform
import struct
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]


def versions():
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("triton", "mamba_ssm", "causal_conv1d"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    if torch.cuda.is_available():
        found |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    return found


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def header(device, dtype):
    """The circumstances of the measurement: adapter, driver, versions, commit, command."""
    gpu = device == "cuda"
    commit = output("git", "rev-parse", "--short", "HEAD") or "unknown"
    return {
        "format": "rowscan-bench/1",
        "implementation": "cuda" if gpu else "pytorch-cpu",
        "adapter": torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine(),
        "driver": output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if gpu else "",
        "software": not gpu,
        "versions": versions(),
        "commit": commit + ("+" if output("git", "status", "--porcelain") else ""),
        "command": " ".join(sys.argv),
        "timer": "CUDA events" if gpu else "wall clock",
        "precision": dtype,
    }


class Clock:
    """Times a call, by CUDA events on a GPU and by the wall clock on a CPU. Returns median and minimum in seconds, and
    the number of samples.

    `ahead` keeps the GPU busy while the host launches, so that only work of the GPU is timed, as our timestamps do.
    Without it the time that the host takes to launch counts too, as in a real training step."""

    def __init__(self, device, budget=0.5, least=5, most=50, ahead=True):
        self.gpu, self.budget, self.least, self.most, self.ahead = device == "cuda", budget, least, most, ahead
        # overwritten between samples, so that no input is still in the L2 cache
        self.flush = torch.empty(64 << 20, dtype=torch.float32, device=device) if self.gpu else None

    def __call__(self, call):
        for _ in range(3 if self.gpu else 1):
            call()
        start, samples = time.perf_counter(), []
        while len(samples) < self.most and (len(samples) < self.least or time.perf_counter() - start < self.budget):
            samples.append(self.once(call))
        samples.sort()
        return samples[len(samples) // 2], samples[0], len(samples)

    def once(self, call):
        if not self.gpu:
            start = time.perf_counter()
            call()
            return time.perf_counter() - start
        self.flush.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        if self.ahead:
            torch.cuda._sleep(4_000_000)  # cycles: about two milliseconds
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3


def row(family, direction, case, reference, seconds, **more):
    median, least, samples = seconds
    return dict(
        family=family, direction=direction, case=case, reference=reference, ms=median * 1e3, ms_min=least * 1e3, samples=samples, **more
    )


def failed(family, direction, case, reference, why):
    return dict(family=family, direction=direction, case=case, reference=reference, failed=str(why).splitlines()[0][:300])


def relative(got, want):
    """Relative L2 error; the absolute one if the reference is zero."""
    got, want = got.detach().double().cpu(), want.detach().double().cpu()
    if got.shape != want.shape:
        raise ValueError(f"shape {tuple(got.shape)}, expected {tuple(want.shape)}")
    norm = want.norm().item()
    diff = (got - want).norm().item()
    return diff / norm if norm > 0 else diff


def metadata(path):
    with open(path, "rb") as f:
        (n,) = struct.unpack("<Q", f.read(8))
        return json.loads(f.read(n)).get("__metadata__", {})


def write(path, head, rows):
    Path(path).write_text(json.dumps(head | {"rows": rows}, indent=1) + "\n")

"""Training steps and operators that rowscan is compared with, in PyTorch on the CPU.

    python torch_step.py CASE... [--warm-up 2] [--steps 8] [--threads 1]

Prints one JSON line for each case. A training step is forward pass, loss, backward pass, AdamW.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cuda"))
import step  # noqa: E402  HybridNet in PyTorch, with a scan in a loop over tokens
from kernels import plain_conv, plain_scan  # noqa: E402
from model import preset  # noqa: E402

BATCH, SIDE, CLASSES = 8, 64, 10
NO_DROP_PATH = {"stochastic_depth_prob": 0.0}
# builder, its options, timm's number of parameters with 1000 classes, features of the classifier, and the memory layout
# that is the faster one on a CPU
NETWORKS = {
    "resnet50": (torchvision.models.resnet50, {}, 25_557_032, 2048, torch.channels_last),
    "convnext_tiny": (torchvision.models.convnext_tiny, NO_DROP_PATH, 28_589_128, 768, torch.contiguous_format),
}


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.05, fused=True)


def network(name):
    """A training step of a classifier, and its number of parameters."""
    build, options, of_timm, features, layout = NETWORKS[name]
    model = build(num_classes=CLASSES, **options).train().to(memory_format=layout)
    images, labels = torch.randn(BATCH, 3, SIDE, SIDE).to(memory_format=layout), torch.arange(BATCH)
    count = sum(p.numel() for p in model.parameters())
    assert count == of_timm - (1000 - CLASSES) * (features + 1), f"{name}: {count} parameters"
    optimizer = adamw(model.parameters())

    def train():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return train, count


def pretraining(size):
    """A step of MAP on 16 images."""
    trained = step.Step(preset(size), 16, "cpu", plain_scan, plain_conv, "f32", "eager")
    return trained.train, sum(p.numel() for p in trained.P.values())


def operator(name, n):
    x, dy = torch.randn(n), torch.randn(n)
    if name == "gelu":
        return lambda: F.gelu(x)
    if name == "gelu_backward":
        return lambda: torch.ops.aten.gelu_backward(dy, x)
    x.requires_grad_().grad = dy
    return adamw([x]).step


def case(name):
    """(what is timed, parameters or None)"""
    if name in NETWORKS:
        return network(name)
    if name.startswith("map_"):
        return pretraining(name.removeprefix("map_"))
    what, n = name.rsplit("_", 1)
    return operator(what, int(n)), None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = "resnet50, convnext_tiny, map_micro, gelu_N, gelu_backward_N, adamw_N"
    parser.add_argument("cases", nargs="+", metavar="CASE", help=cases)
    for option, default in (("--warm-up", 2), ("--steps", 8), ("--threads", 1)):
        parser.add_argument(option, type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.cases:
        torch.manual_seed(0)
        call, parameters = case(name)
        times = []
        for _ in range(max(args.warm_up, 1) + args.steps):
            start = time.perf_counter()
            result = call()
            times.append((time.perf_counter() - start) * 1e3)
        timed = times[-args.steps :]
        row = {"implementation": f"PyTorch {torch.__version__}", "case": name, "ms": statistics.median(timed)}
        row |= {"ms_min": min(timed), "ms_max": max(timed), "first_ms": times[0], "samples": len(timed)}
        if parameters:
            row |= {"parameters": parameters, "loss": result.item()}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

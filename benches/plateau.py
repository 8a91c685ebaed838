"""What ends the first plateau of pretraining soonest: MAP of `micro` on CIFAR-10 under one changed setting at a time.

    python3 benches/plateau.py ROWSCAN CIFAR10 OUT [--seeds 3] [--steps 700] [--share K/N] [--cells FIRST LAST]

ROWSCAN is the program, CIFAR10 the folder with train/CLASS/*. Each cell is one run of one thread; a finished one is not run
again and a begun one begins anew, so that the same command goes on after an interruption. N commands share the cells with
--share 0/N to (N-1)/N. --cells takes some by their places: all settings with seed 0, then with seed 1 and so on, then the
widths. Prints the table of what is there.
"""

import argparse
import json
import shutil
import statistics
import subprocess
from pathlib import Path

BATCH = 32
# what is changed, and the options
SETTINGS = {
    "positions from N(0, 0.02), as the official code": ["--init-positions", "normal"],
    "positions from sines and cosines": [],
    "… learning rate × 2": ["--lr", "2e-3"],
    "… learning rate × 4": ["--lr", "4e-3"],
    "… β₂ 0.999": ["--betas", "0.9,0.999"],
    "… amplitude 0.3": ["--position-scale", "0.3"],
    "… amplitude 2": ["--position-scale", "2"],
    "… warm-up × 3": ["--warmup-epochs", "0.3"],
    "… batch 64, half the steps": ["--batch-size", "64"],
    "… batch 16, twice the steps": ["--batch-size", "16"],
    "… mask token from N(0, 0.5)": ["--mask-token-std", "0.5"],
    "… 0.01 added to the variance of a patch": ["--target-eps", "0.01"],
    "… learning rate × 8": ["--lr", "8e-3"],
    "… learning rate × 16": ["--lr", "1.6e-2"],
    "… learning rate × 4, batch 16, twice the steps": ["--lr", "4e-3", "--batch-size", "16"],
    "… learning rate × 4, batch 8, four times the steps": ["--lr", "4e-3", "--batch-size", "8"],
    "… learning rate × 4, batch 4, eight times the steps": ["--lr", "4e-3", "--batch-size", "4"],
}
# the rate by width, batches of 8, one seed
WIDTHS = {
    f"width {width}, rate {rate}": ["--width", str(width), "--lr", rate, "--batch-size", "8"]
    for width, rates in [(96, ("2.7e-3", "4e-3")), (192, ("1.3e-3", "2e-3", "4e-3"))]
    for rate in rates
}


def run(args, options, seed, folder):
    """the losses of all steps, from the log of a finished run"""
    log = folder / "log.jsonl"
    done = folder / "done"
    if not done.exists():
        common = ["--data", args.data, "--max-images", str(args.steps * BATCH), "--model", "map_micro_patch4_32"]
        common += ["--epochs", "1", "--batch-size", str(BATCH), "--lr", "1e-3", "--warmup-epochs", "0.1"]
        common += ["--log-every", "1", "--grid-every", "0", "--keep", "1", "--threads", "1", "--seed", str(seed)]
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([args.rowscan, "pretrain", *common, *options, "--output-dir", folder], check=True)
        done.touch()
    rows = map(json.loads, log.read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row and "step" in row]


def of(losses, images):
    """(images until the mean loss of 640 is below 0.5, or None, mean loss of the last twentieth) of a run of `images`"""
    window = max(len(losses) // 35, 1)
    means = (sum(losses[i - window : i]) / window for i in range(window, len(losses) + 1))
    at = next((i + window for i, mean in enumerate(means) if mean < 0.5), None)
    last = losses[-max(len(losses) // 20, 1) :]
    return at and at * images // len(losses), sum(last) / len(last)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("rowscan", "data"):
        parser.add_argument(name)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--share", default="0/1", help="K/N: run each N-th cell, from K")
    parser.add_argument("--cells", type=int, nargs=2, metavar=("FIRST", "LAST"), default=(0, 1 << 30))
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args()
    share, shares = map(int, args.share.split("/"))
    cells = {}
    todo = [(i, seed, *setting) for seed in range(args.seeds) for i, setting in enumerate(SETTINGS.items())]
    todo += [(i, 0, *setting) for i, setting in enumerate(WIDTHS.items(), len(SETTINGS))]
    for place, (i, seed, name, options) in enumerate(todo):
        folder = args.out / f"{i}-{seed}"
        ours = not args.table and place % shares == share and args.cells[0] <= place <= args.cells[1]
        if ours or (folder / "done").exists():
            cells.setdefault(name, []).append(of(run(args, options, seed, folder), args.steps * BATCH))
    print("| setting | images until the loss is below 0.5 | loss at the end | seeds |\n|---|--:|--:|--:|")
    for name, found in cells.items():
        images = [f"{at:,}" if at else "never" for at, _ in found]
        last = [loss for _, loss in found]
        spread = f" ± {statistics.stdev(last):.3f}" if len(last) > 1 else ""
        print(f"| {name} | {' · '.join(images)} | {statistics.mean(last):.3f}{spread} | {len(found)} |")


if __name__ == "__main__":
    main()

"""Time the whole MAP pretraining step of HybridNet in PyTorch: forward alone, and forward, backward and AdamW.

    python step.py --json out.json [--device cpu] [--size tiny ...] [--batch 128] [--precision f32 tf32 bf16] [--form eager compiled]

First the model is compared with a committed fixture. DropPath is off, as it is in our step.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from common import ROOT, Clock, failed, header, metadata, row, write
from kernels import convs, gen, plain_conv, plain_scan, scans
from model import Map, preset, tables


def verify(device, scan, conv, limit):
    """Compares the loss and every gradient with the fixture. Returns the worst error and the number of gradients."""
    path = ROOT / "tests" / "fixtures" / "map_small.safetensors"
    cfg = json.loads(metadata(path)["config"])
    dtype = torch.float32 if device == "cuda" else torch.float64
    T = {k: v.to(device, dtype) for k, v in load_file(path).items()}
    P = gen.leaves(gen.sub(T, "param."), dtype)
    ids, inverse = tables(T["input.mask"])
    loss = Map(cfg, scan, conv, device).loss(P, T["input.images"], ids, inverse, T["input.mask"])
    grads = gen.gradients(loss, P)
    worst = abs(loss.item() - T["output.loss"].item())
    zero, compared = json.loads(metadata(path).get("zero_gradients", "[]")), 0
    for name, want in T.items():
        if name.startswith("grad."):
            got = grads[name]
            absolute = name[5:] in zero
            worst = max(worst, (got - want).abs().max().item() if absolute else gen.error(got, want))
            compared += 1
    if not worst <= limit:
        raise ValueError(f"the model differs from the fixture: {worst:.1e}, allowed {limit:.0e}")
    return worst, compared


class Step:
    def __init__(self, cfg, batch, device, scan, conv, precision, form):
        g = torch.Generator().manual_seed(0)
        # without the weights of the classifier, which get no gradient in pretraining
        shapes = {k: s for k, s in gen.map_shapes(cfg).items() if k.split(".")[0] not in ("cls_token", "pos_embed_cls", "head", "neck", "norm_neck")}
        self.P = {k: v.to(device).requires_grad_() for k, v in gen.draw(shapes, g).items()}
        tokens = (cfg["img_size"] // cfg.get("patch_size", gen.PATCH)) ** 2
        mask = gen.masks((batch,), tokens, tokens // 2, g).to(device)
        self.inputs = (gen.pictures(batch, cfg["img_size"], g).to(device), *tables(mask), mask)
        self.visible = self.inputs[1].shape[1]
        self.optimizer = torch.optim.AdamW(list(self.P.values()), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
        self.autocast = contextlib.nullcontext
        if precision in ("bf16", "f16"):
            dtype = torch.bfloat16 if precision == "bf16" else torch.float16
            self.autocast = lambda: torch.autocast(device, dtype=dtype)
        self.scaler = torch.amp.GradScaler(device, enabled=precision == "f16")
        loss = Map(cfg, scan, conv, device).loss
        self.loss = torch.compile(loss) if form == "compiled" else loss

    def forward(self):
        with torch.no_grad(), self.autocast():
            return self.loss(self.P, *self.inputs)

    def train(self):
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.loss(self.P, *self.inputs)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--size", nargs="+", default=["tiny", "small", "base"])
    parser.add_argument("--batch", type=int, nargs="+", default=[128])
    parser.add_argument("--precision", nargs="+", default=["f32", "tf32", "bf16"])
    parser.add_argument("--form", nargs="+", default=["eager", "compiled"])
    parser.add_argument("--depth", type=int, help="fewer Mamba layers, for a try on a CPU; the rows say so")
    args = parser.parse_args()
    device, rows = args.device, []
    head = header(device, "as each row says")
    torch.backends.cudnn.allow_tf32 = False
    scan_name, scan = next(iter(scans(device).items()))
    conv_name, conv = next(iter(convs(device).items()))
    try:
        worst, compared = verify(device, scan, conv, 2e-4 if device == "cuda" else 1e-9)
        print(f"fixture: loss and {compared} gradients, worst relative error {worst:.1e}", flush=True)
    except Exception as e:
        print(f"fixture: {type(e).__name__}: {e}; falling back to the plain kernels", file=sys.stderr)
        rows.append(failed("step", "training", "fixture", scan_name, f"{type(e).__name__}: {e}"))
        (scan_name, scan), (conv_name, conv) = ("plain PyTorch scan (a loop over tokens)", plain_scan), ("PyTorch conv1d", plain_conv)
        verify(device, scan, conv, 2e-4)
    clock = Clock(device, budget=2.0, least=5, most=20, ahead=False) if device == "cuda" else Clock("cpu", budget=0.0, least=1)
    for size in args.size:
        cfg = preset(size)
        name = size
        if args.depth:
            cfg["depth"], name = args.depth, f"{size} of depth {args.depth}"
        for batch in args.batch:
            for precision in args.precision:
                torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
                for form in args.form:
                    reference = f"PyTorch {form} {precision}, {scan_name}, {conv_name}"
                    case = f"{name} 98x{batch}"
                    try:
                        step = Step(cfg, batch, device, scan, conv, precision, form)
                        case = f"{name} {step.visible}x{batch}"
                        more = dict(precision=precision, images=batch)
                        if device == "cuda":
                            torch.cuda.reset_peak_memory_stats()
                        rows.append(row("step", "forward", case, reference, clock(step.forward), **more))
                        rows.append(row("step", "training", case, reference, clock(step.train), loss=step.train().item(), **more))
                        if device == "cuda":
                            rows[-1]["peak_bytes"] = torch.cuda.max_memory_allocated()
                        for r in rows[-2:]:
                            print(f"{r['case']:<20} {r['direction']:<9} {reference} {r['ms']:.2f} ms, {1e3 * batch / r['ms']:.1f} images/s", flush=True)
                    except Exception as e:
                        rows.append(failed("step", "training", case, reference, f"{type(e).__name__}: {e}"))
                        print(f"{case}: {reference}: {type(e).__name__}: {e}", file=sys.stderr, flush=True)
                    step = None
                    if device == "cuda":
                        torch.cuda.empty_cache()
                    write(args.json, head, rows)
    if any("failed" in r for r in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Time the CUDA references of each operator on the inputs that `rowscan bench --dump DIR` wrote.

    python ops.py DIR --json out.json [--device cpu] [--family selective_scan ...]

Outputs and gradients are first compared with ours. A reference that differs gets a row that says so and has no time.
Each reference runs in its own layout, (B, E, L) for scans and convolutions, and changing the layout is not timed. The
two directions of a scan run one after the other, as in the official model.
"""

import argparse
import itertools
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from common import Clock, failed, header, metadata, relative, row, write
from kernels import attentions, convs, gen, scans

# limits of the relative L2 error: f32 sums in another order; TF32, f16 and bf16 operands, of 11, 11 and 8 bits
TOLERANCE = {"f32": 2e-5, "tf32": 2e-3, "f16": 2e-3, "bf16": 1.5e-2}


class Reference:
    """One implementation of a case: leaves in its own layout, the call to time, and its results in our layout."""

    def __init__(self, name, leaves, call, outputs, grads, douts, precision="f32", work=None):
        self.name, self.leaves, self.call, self.precision, self.work = name, leaves, call, precision, work
        self.outputs, self.grads, self.douts = outputs, grads, douts

    def backward(self, outs):
        """Gradients of the leaves. The graph is retained for the next call."""
        wanted = [x for x in self.leaves.values() if x.requires_grad]
        return torch.autograd.grad(outs, wanted, self.douts, retain_graph=True)


def kinds(device):
    """Pairs of a precision and the type of tensors that have a value per token. The 16-bit types need a GPU."""
    short = {"f16": torch.float16, "bf16": torch.bfloat16} if device == "cuda" else {}
    return ({"f32": torch.float32} | short).items()


def titled(name, precision):
    return name if precision == "f32" else f"{name} {precision}"


def leaf(x):
    return x.detach().clone().requires_grad_()


def scan(T, facts, device):
    S, N = facts["directions"], facts["states"]
    u, delta, xdbl = T["input.u"], T["input.delta"], T["input.xdbl"]
    _, B, L, E = u.shape
    channel_params, up = T["input.channel_params"], lambda n: -(-n // 64) * 64
    d_at = up(S * E * N)
    bias_at = d_at + up(S * E)
    z = T["input.xz"][..., E:]
    flip = lambda x, s, dim: x.flip(dim) if s else x
    for (precision, dtype), (name, fn) in itertools.product(kinds(device), scans(device).items()):
        leaves = {}
        for s in range(S):
            channel = lambda x: leaf(flip(x.transpose(1, 2).contiguous(), s, 2).to(dtype))
            part = lambda at, *shape: channel_params[at + s * math.prod(shape) :][: math.prod(shape)].view(shape)
            leaves |= {
                f"u{s}": channel(u[s]),
                f"delta{s}": channel(delta[s]),
                f"A{s}": leaf(-part(0, E, N).clamp(-80, 80).exp()),
                f"B{s}": channel(xdbl[s][..., -2 * N : -N]),
                f"C{s}": channel(xdbl[s][..., -N:]),
                f"D{s}": leaf(part(d_at, E)),
                f"z{s}": channel(z),
                f"bias{s}": leaf(part(bias_at, E)),
            }

        def call(leaves=leaves, fn=fn):
            return [fn(*(leaves[f"{k}{s}"] for k in ("u", "delta", "A", "B", "C", "D", "z", "bias"))) for s in range(S)]

        def outputs(outs):
            return {"out": sum(flip(o, s, 2) for s, o in enumerate(outs)).transpose(1, 2) / S}

        def grads(g, leaves=leaves):
            both = lambda k: torch.stack([flip(g[f"{k}{s}"], s, 2).transpose(1, 2) for s in range(S)])
            dxdbl = torch.zeros_like(xdbl)
            dxdbl[..., -2 * N : -N], dxdbl[..., -N:] = both("B"), both("C")
            dxz = torch.zeros_like(T["input.xz"])
            dxz[..., E:] = both("z").sum(0)
            dchannel_params = torch.zeros_like(channel_params)
            for s in range(S):
                for at, k in ((0, "A"), (d_at, "D"), (bias_at, "bias")):
                    grad = g[f"A{s}"] * leaves[f"A{s}"].detach() if k == "A" else g[f"{k}{s}"]
                    dchannel_params[at + s * grad.numel() :][: grad.numel()] = grad.flatten()
            return {"u": both("u"), "delta": both("delta"), "xdbl": dxdbl, "xz": dxz, "channel_params": dchannel_params}

        dout = T["dout.out"].transpose(1, 2).to(dtype) / S
        douts = [flip(dout, s, 2).contiguous() for s in range(S)]
        yield Reference(titled(name, precision), leaves, call, outputs, grads, douts, precision)


def conv_same(T, device):
    """Taps around the token, as in MambaVision."""
    x, w = T["input.x"], T["input.w"]
    for precision, dtype in kinds(device):
        leaves = {"x": leaf(x.transpose(1, 2).contiguous().to(dtype)), "w": leaf(w)}

        def call(leaves=leaves):
            x, w = leaves["x"], leaves["w"]
            return [F.silu(F.conv1d(x, w[:, None].to(x.dtype), padding="same", groups=x.shape[1]))]

        def outputs(outs):
            return {"u": outs[0].transpose(1, 2)}

        def grads(g):
            return {"x": g["x"].transpose(1, 2), "w": g["w"]}

        douts = [T["dout.u"].transpose(1, 2).contiguous().to(dtype)]
        yield Reference(titled("PyTorch conv1d, grouped, and SiLU", precision), leaves, call, outputs, grads, douts, precision)


def conv(T, facts, device):
    if "same" in facts:
        yield from conv_same(T, device)
        return
    S = facts["directions"]
    xz, w, bias = T["input.xz"], T["input.w"], T["input.bias"]
    E = xz.shape[2] // 2
    flip = lambda x, s: x.flip(2) if s else x
    for (precision, dtype), (name, fn) in itertools.product(kinds(device), convs(device).items()):
        leaves = {}
        for s in range(S):
            x = flip(xz[..., :E].transpose(1, 2).contiguous(), s).to(dtype)
            leaves |= {f"x{s}": leaf(x), f"w{s}": leaf(w[s]), f"bias{s}": leaf(bias[s])}

        def call(leaves=leaves, fn=fn):
            return [fn(leaves[f"x{s}"], leaves[f"w{s}"], leaves[f"bias{s}"]) for s in range(S)]

        def outputs(outs):
            return {"u": torch.stack([flip(o, s).transpose(1, 2) for s, o in enumerate(outs)])}

        def grads(g):
            dxz = torch.zeros_like(xz)
            dxz[..., :E] = sum(flip(g[f"x{s}"], s) for s in range(S)).transpose(1, 2)
            stack = lambda k: torch.stack([g[f"{k}{s}"] for s in range(S)])
            return {"xz": dxz, "w": stack("w"), "bias": stack("bias")}

        douts = [flip(T["dout.u"][s].transpose(1, 2), s).contiguous().to(dtype) for s in range(S)]
        yield Reference(titled(name, precision), leaves, call, outputs, grads, douts, precision)


def attention(T, facts, device):
    if "input.qkv" not in T:
        return  # this case is about the weights alone, which no reference hands out
    qkv, heads, side = T["input.qkv"], facts["heads"], facts["row"]
    B, L, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    split = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)
    token = torch.arange(L, device=qkv.device)
    allow = (token // side)[None, :] <= (token // side)[:, None] if side else None
    for precision, dtype in kinds(device):
        for name, fn in attentions(device, allow).items():
            parts = [split(x).contiguous().to(dtype) for x in qkv.chunk(3, -1)]
            leaves = dict(zip("qkv", map(leaf, parts)))

            def call(leaves=leaves, fn=fn):
                return [fn(leaves["q"], leaves["k"], leaves["v"])]

            merge = lambda x: x.transpose(1, 2).flatten(2)
            outputs = lambda outs: {"out": merge(outs[0])}
            grads = lambda g: {"qkv": torch.cat([merge(g[k]) for k in "qkv"], -1)}
            yield Reference(f"{name} {precision}", leaves, call, outputs, grads, [split(T["dout.out"]).contiguous().to(dtype)], precision)


def matmul(T, facts, device):
    x, w, bias = T["input.x"], T["input.w"], T.get("input.bias")
    precisions = ["f32"] + (["tf32", "f16", "bf16"] if device == "cuda" else [])
    for precision in precisions:
        dtype = {"f16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
        leaves = {k: leaf(v.to(dtype)) for k, v in (("x", x), ("w", w), ("bias", bias)) if v is not None}

        def call(leaves=leaves, precision=precision):
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            if leaves["w"].ndim == 2:
                return [F.linear(leaves["x"], leaves["w"], leaves.get("bias"))]
            return [torch.bmm(leaves["x"], leaves["w"].transpose(1, 2))]

        name = {"cuda": "cuBLAS", "cpu": "PyTorch"}[device] + f" GEMM {precision}"
        douts = [T["dout.y"].to(dtype)] if "dout.y" in T else []  # cases of one kernel have no backward pass
        yield Reference(name, leaves, call, lambda o: {"y": o[0]}, (lambda g: g) if douts else None, douts, precision)


def mlp(T, facts, device):
    names = ["x", "w1", "b1", "w2", "b2"]
    for precision in ["f32", "tf32", "f16", "bf16"] if device == "cuda" else ["f32"]:
        leaves = {k: leaf(T["input." + k]) for k in names}
        autocast = {"f16": torch.float16, "bf16": torch.bfloat16}.get(precision)

        def call(leaves=leaves, precision=precision, autocast=autocast):
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            with torch.autocast(device, autocast, enabled=autocast is not None):
                hidden = F.gelu(F.linear(leaves["x"], leaves["w1"], leaves["b1"]))
                return [F.linear(hidden, leaves["w2"], leaves["b2"]).float()]

        yield Reference("PyTorch " + precision, leaves, call, lambda o: {"y": o[0]}, lambda g: g, [T["dout.y"]], precision)


def norm(T, facts, device):
    rms = facts["op"] == "rms_norm"
    x, residual, drop_path = T["input.x"], T["input.residual"], T["input.drop_path"]
    d = x.shape[-1]

    def eager(x, residual, w, bias=None, dtype=torch.float32):
        total = residual + drop_path[:, None, None] * x
        y = F.rms_norm(total, (d,), w, facts["eps"]) if rms else F.layer_norm(total, (d,), w, bias, facts["eps"])
        return [y.to(dtype), total]

    forms = {"PyTorch add and norm, eager": eager}
    if device == "cuda":
        forms["PyTorch add and norm, compiled"] = torch.compile(eager)
    # with 16 bits only y, the operand of products, is 16-bit; the residual stream stays f32
    for (precision, dtype), (name, fn) in itertools.product(kinds(device), forms.items()):
        leaves = {k: leaf(T["input." + k]) for k in ("x", "residual", "w", "bias") if "input." + k in T}
        call = lambda leaves=leaves, fn=fn, dtype=dtype: fn(**leaves, dtype=dtype)
        outputs = lambda o: {"y": o[0], "sum": o[1]}
        douts = [T["dout.y"].to(dtype), T["dout.sum"]]
        yield Reference(titled(name, precision), leaves, call, outputs, lambda g: g, douts, precision)


def adamw(T, facts, device):
    hyper = facts.get("hyper")
    if hyper is None:
        return  # this case times the norm of the gradients alone
    p = torch.nn.Parameter(T["input.p"].clone())
    p.grad = T["input.grad"].clone()
    fused = device == "cuda"
    options = dict(lr=hyper["lr"], betas=tuple(hyper["betas"]), eps=hyper["eps"], weight_decay=hyper["weight_decay"], fused=fused)
    optimizer = torch.optim.AdamW([p], **options)
    # the optimizer state before step number hyper["step"]
    step = torch.tensor(float(hyper["step"] - 1), device=p.device if fused else "cpu")
    optimizer.state[p] = {"step": step, "exp_avg": T["input.m"].clone(), "exp_avg_sq": T["input.v"].clone()}
    if hyper["scale"] and fused:  # as torch.amp.GradScaler does
        optimizer.grad_scale, optimizer.found_inf = (torch.full((1,), v, device=device) for v in (hyper["scale"], 0.0))
    elif hyper["scale"]:
        p.grad /= hyper["scale"]

    def call():
        if hyper["max_norm"]:
            torch.nn.utils.clip_grad_norm_([p], hyper["max_norm"])
        optimizer.step()
        return []

    def outputs(_):
        state = optimizer.state[p]
        return {"p": p.detach(), "m": state["exp_avg"], "v": state["exp_avg_sq"]}

    yield Reference("torch.optim.AdamW " + ("fused" if fused else "for-each"), {}, call, outputs, None, [])


def elementwise(T, facts, device):
    fn = {"gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu, "softplus": F.softplus}[facts["op"]]
    leaves = {"x": leaf(T["input.x"])}
    yield Reference("PyTorch", leaves, lambda: [fn(leaves["x"])], lambda o: {"y": o[0]}, lambda g: g, [T["dout.y"]])


FAMILIES = {
    "selective_scan": scan,
    "conv1d": conv,
    "attention": attention,
    "matmul": matmul,
    "mlp": mlp,
    "norm": norm,
    "adamw": adamw,
    "activation": elementwise,
}


def compare(reference, T):
    """The worst relative error of all results. Raises an error that names the first result beyond its limit."""
    outs = reference.call()
    got = {"output." + k: v for k, v in reference.outputs(outs).items()}
    if reference.grads:
        named = dict(zip(reference.leaves, reference.backward(outs)))
        got |= {"grad." + k: v for k, v in reference.grads(named).items()}
    limit, worst = TOLERANCE[reference.precision], 0.0
    for name, value in got.items():
        error = relative(value, T[name])
        if not error <= limit:
            raise ValueError(f"{name}: relative error {error:.1e}, allowed {limit:.0e}")
        worst = max(worst, error)
    return worst


def measure(path, device, clock):
    config = json.loads(metadata(path)["config"])
    family, case, facts = config["family"], config["case"], config["facts"]
    if family not in FAMILIES:
        return
    T = {k: v.to(device) for k, v in load_file(path).items()}
    for reference in FAMILIES[family](T, facts, device):
        try:
            error = compare(reference, T)
        except Exception as e:
            yield failed(family, "forward", case, reference.name, f"{type(e).__name__}: {e}")
            continue
        more = dict(precision=reference.precision, error=error)
        with torch.no_grad():
            yield row(family, "forward", case, reference.name, clock(reference.call), **more)
        if reference.grads:
            outs = reference.call()
            yield row(family, "backward", case, reference.name, clock(lambda: reference.backward(outs)), **more)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dumps", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--family", action="append", default=[])
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    clock = Clock(args.device) if args.device == "cuda" else Clock("cpu", budget=0.05, least=2)
    head, rows = header(args.device, "f32 unless a row says otherwise"), []
    paths = sorted(p for p in args.dumps.glob("*.safetensors") if not args.family or p.name.split("-")[0] in args.family)
    if not paths:
        sys.exit(f"{args.dumps}: no dump of rowscan bench")
    for path in paths:
        try:
            for r in measure(path, args.device, clock):
                rows.append(r)
                figure = f"{r['ms']:10.3f} ms" if "ms" in r else "FAILED " + r["failed"]
                print(f"{r['family']:<15} {r['direction']:<9} {r['case']:<28} {r['reference']:<50} {figure}", flush=True)
        except Exception as e:  # a broken case becomes a row, and the next case runs
            rows.append(failed(path.name.split("-")[0], "forward", path.stem, "", f"{type(e).__name__}: {e}"))
            print(f"{path.name}: {type(e).__name__}: {e}", file=sys.stderr, flush=True)
        if args.device == "cuda":
            torch.cuda.empty_cache()
        write(args.json, head, rows)  # all rows so far, in case a later case crashes
    if any("failed" in r for r in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()

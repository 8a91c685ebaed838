"""The reference implementations by name. A name says so if the implementation is not the official one."""

import importlib
import importlib.util
import sys
import types

import torch
import torch.nn.functional as F

from common import ROOT

sys.path.insert(0, str(ROOT / "tests" / "fixtures"))
import gen  # noqa: E402  the plain PyTorch scan and model, which the fixtures verify


def plain_scan(u, delta, A, B, C, D, z, delta_bias):
    return gen.selective_scan(u, delta, A, B, C, D, z, delta_bias, True)[0]


def official_scan():
    """`selective_scan_fn` alone: importing the whole package would require transformers."""
    spec = importlib.util.find_spec("mamba_ssm")
    if spec is None:
        raise ImportError("no module named mamba_ssm")
    package = types.ModuleType("mamba_ssm")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules.setdefault("mamba_ssm", package)
    return importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn


def scans(device):
    """{name: scan(u, delta, A, B, C, D, z, bias)}. The official scan comes first if it is installed."""
    found = {}
    if device == "cuda":
        try:
            selective_scan_fn = official_scan()
            found["mamba-ssm selective_scan (official)"] = lambda u, delta, A, B, C, D, z, bias: selective_scan_fn(
                u, delta, A, B, C, D, z=z, delta_bias=bias, delta_softplus=True
            )
        except Exception as e:
            print(f"mamba-ssm is not there: {e}", file=sys.stderr)
        try:
            from scan_triton import selective_scan_triton

            found["Triton chunked prefix scan (ours, not official)"] = selective_scan_triton
        except Exception as e:
            print(f"the Triton scan is not there: {e}", file=sys.stderr)
    return found or {"plain PyTorch scan (a loop over tokens)": plain_scan}


def plain_conv(x, w, bias):
    """SiLU of the causal depthwise convolution: x (B, E, L), w (E, K), bias (E) -> (B, E, L)"""
    w, bias = w.to(x.dtype), bias.to(x.dtype)
    return F.silu(F.conv1d(F.pad(x, (w.shape[1] - 1, 0)), w[:, None], bias, groups=x.shape[1]))


def convs(device):
    found = {}
    if device == "cuda":
        try:
            from causal_conv1d import causal_conv1d_fn

            found["causal-conv1d (official)"] = lambda x, w, bias: causal_conv1d_fn(x, w, bias, activation="silu")
        except Exception as e:
            print(f"causal-conv1d is not there: {e}", file=sys.stderr)
    found["PyTorch conv1d, grouped, and SiLU"] = plain_conv
    return found


def attentions(device, allow):
    """{name: attention(q, k, v) over (B, H, L, d)}; `allow` (L, L) bool or None"""
    found = {"PyTorch SDPA" + (" with a mask" if allow is not None else ""): lambda q, k, v: F.scaled_dot_product_attention(q, k, v, allow)}
    if device == "cuda" and allow is not None:
        try:
            from torch.nn.attention.flex_attention import create_block_mask, flex_attention

            L = len(allow)
            mask = create_block_mask(lambda b, h, i, j: allow[i, j], None, None, L, L, device=device)
            compiled = torch.compile(flex_attention)
            found["PyTorch flex attention"] = lambda q, k, v: compiled(q, k, v, block_mask=mask)
        except Exception as e:
            print(f"flex attention is not there: {e}", file=sys.stderr)
    return found

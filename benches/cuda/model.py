"""HybridNet with the MAP decoder for speed: functions over a dict of weights under their official names.

It computes the same as tests/fixtures/gen.py, which is written to be read. test.py compares the two, and this one with
a committed fixture. Mixers work on (B, E, L) as the official ones do, visible tokens are gathered by index, attention
is F.scaled_dot_product_attention.
"""

import torch
import torch.nn.functional as F

from kernels import gen

EPS = 1e-5


def branch(xz, P, b, A_log, scan, conv):
    """One direction of a Mamba mixer: xz (B, 2E, L) -> (B, E, L)."""
    x, z = xz.chunk(2, 1)
    u = conv(x, P[f"conv1d{b}.weight"][:, 0], P[f"conv1d{b}.bias"])
    W_dt, N = P[f"dt_proj{b}.weight"], A_log.shape[1]
    q = F.linear(u.transpose(1, 2), P[f"x_proj{b}.weight"])  # (B, L, R + 2N)
    dt, Bt, Ct = q.split([W_dt.shape[1], N, N], 2)
    delta = F.linear(dt, W_dt).transpose(1, 2)
    A = -torch.exp(A_log.float() if A_log.dtype != torch.float64 else A_log)
    # autocast makes u, delta, B, C and z 16-bit; A, D and the bias stay f32, as in the official kernel
    BC = [x.transpose(1, 2).contiguous() for x in (Bt, Ct)]
    return scan(u.contiguous(), delta.to(u.dtype).contiguous(), A, *BC, P[f"D{b}"], z.contiguous(), P[f"dt_proj{b}.bias"])


def mixer(x, P, scan, conv):
    xz = F.linear(x, P["in_proj.weight"]).transpose(1, 2)  # (B, 2E, L)
    y = branch(xz, P, "", P["A_log"], scan, conv)
    y = (y + branch(xz.flip(2), P, "_b", P["A_b_log"], scan, conv).flip(2)) / 2
    return F.linear(y.transpose(1, 2), P["out_proj.weight"])


def linear(x, P, name):
    return F.linear(x, P[name + ".weight"], P[name + ".bias"])


def layer_norm(x, P, name):
    return F.layer_norm(x, x.shape[-1:], P[name + ".weight"], P[name + ".bias"], EPS)


def attention(q, k, v, heads, allow=None):
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, allow).transpose(1, 2).flatten(2)


def mlp(x, P):
    return linear(F.gelu(linear(x, P, "mlp.fc1")), P, "mlp.fc2")


def transformer(x, P, heads):
    q, k, v = linear(layer_norm(x, P, "norm1"), P, "attn.qkv").chunk(3, -1)
    x = x + linear(attention(q, k, v, heads), P, "attn.proj")
    return x + mlp(layer_norm(x, P, "norm2"), P)


def decoder_block(x, P, heads, allow):
    q = linear(layer_norm(x, P, "norm2_1"), P, "attn2.q")
    k, v = linear(layer_norm(x, P, "norm2_2"), P, "attn2.kv").chunk(2, -1)
    x = x + linear(attention(q, k, v, heads, allow), P, "attn2.proj")
    return x + mlp(layer_norm(x, P, "norm2"), P)


def patches(images, side, order):
    """(B, 3, S, S) -> (B, T, 3*side*side). `order` is the order of values in a patch: "chw" as in a convolution's weight,
    "hwc" as in the target."""
    B, C, S, _ = images.shape
    x = images.reshape(B, C, S // side, side, S // side, side)
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2) if order == "chw" else x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


class Map:
    """loss(P, images, ids, inverse, mask): `ids` (B, V) are the visible tokens in raster order, `inverse` (B, T) the
    place of a token among them (0 if it is hidden), `mask` (B, T) is 1 for a hidden token."""

    def __init__(self, cfg, scan, conv, device="cpu"):
        self.cfg, self.scan, self.conv = cfg, scan, conv
        self.side = cfg.get("patch_size", gen.PATCH)
        self.allow = gen.row_causal((cfg["img_size"] // self.side) ** 2).to(device)

    def loss(self, P, images, ids, inverse, mask):
        cfg, rows = self.cfg, lambda x, at: x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))
        w = P["patch_embed.proj.weight"]
        x = F.linear(patches(images, self.side, "chw"), w.flatten(1), P["patch_embed.proj.bias"]) + P["pos_embed"]
        h, r = rows(x, ids), None
        for i in range(cfg["depth"]):
            L = gen.sub(P, f"layers.{i}.")
            r = h if r is None else r + h
            h = mixer(F.rms_norm(r, r.shape[-1:], L["norm.weight"], EPS), gen.sub(L, "mixer."), self.scan, self.conv)
            if i % 3 == 2:
                h = h + transformer(h, gen.sub(P, f"blocks.{i // 3}."), cfg.get("num_heads", 12))
        x = F.rms_norm(r + h, r.shape[-1:], P["norm_f.weight"], EPS)
        x = rows(linear(x, P, "decoder_embed"), inverse)
        hidden = mask[..., None]
        x = torch.where(hidden > 0, P["mask_token"].to(x.dtype), x) + P["decoder_pos_embed_learned"]
        for j in range(gen.count(P, "decoder_blocks")):
            x = decoder_block(x, gen.sub(P, f"decoder_blocks.{j}."), cfg.get("decoder_num_heads", 16), self.allow)
        pred = linear(layer_norm(x, P, "decoder_norm"), P, "ar_pred")
        t = patches(images, self.side, "hwc")
        t = (t - t.mean(-1, keepdim=True)) / (t.var(-1, keepdim=True, unbiased=True) + 1e-6).sqrt()
        return ((pred.to(t.dtype) - t).square().mean(-1) * mask).sum() / mask.sum()


def tables(mask):
    """The tables `ids` and `inverse` of a mask (B, T), 1 for a hidden token."""
    B = len(mask)
    ids = (mask == 0).nonzero()[:, 1].view(B, -1)
    inverse = torch.zeros(mask.shape, dtype=torch.long, device=mask.device)
    inverse.scatter_(1, ids, torch.arange(ids.shape[1], device=mask.device).expand(B, -1))
    return ids, inverse


def preset(size):
    """Arguments of the official constructor for images of 224. `large` has 16 heads: 12 do not divide its width. `micro`
    is ours, for images of 64."""
    if size == "micro":
        decoder = dict(decoder_embed_dim=64, decoder_depth=2, decoder_num_heads=4)
        return dict(img_size=64, patch_size=8, embed_dim=64, depth=6, num_heads=4, num_cls_tokens=4, drop_path_rate=0.0) | decoder
    D, depth, n, r, heads = {
        "tiny": (192, 24, 12, 1, 12),
        "small": (384, 24, 12, 2, 12),
        "base": (768, 24, 12, 4, 12),
        "large": (1024, 48, 16, 8, 16),
    }[size]
    return dict(img_size=224, embed_dim=D, depth=depth, num_heads=heads, num_cls_tokens=n, cls_reduce=r, drop_path_rate=0.0)

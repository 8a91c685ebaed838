"""A selective scan in Triton, for machines where mamba-ssm does not build. It is ours, NOT the official kernel.

The algorithm is that of the official kernel. A program works on one (batch, channel) and on one chunk of the sequence
after another. In a chunk it takes a parallel prefix over the maps h -> a*h + b, and it keeps the state at the end of
each chunk. The backward pass recomputes each chunk and takes a prefix from the right. The layout is the official one
too: u, delta, z (B, E, L), B and C (B, N, L), contiguous along L, N = 16 states. These five may be 16-bit; the
arithmetic is f32.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def compose(a1, b1, a2, b2):
    return a1 * a2, a2 * b1 + b2


@triton.jit
def softplus(x):
    return tl.where(x > 20.0, x, tl.log(1.0 + tl.exp(tl.minimum(x, 20.0))))


@triton.jit
def forward_kernel(u, delta, A, B, C, D, z, bias, out, states, E, L, chunks, N: tl.constexpr, T: tl.constexpr):
    b, e = tl.program_id(0), tl.program_id(1)
    row = (b * E + e).to(tl.int64) * L
    d, shift = tl.load(D + e), tl.load(bias + e)
    t = tl.arange(0, T)
    n = tl.arange(0, N)
    a_n = tl.load(A + e * N + n)[:, None]  # (N, 1)
    h = tl.zeros((N,), tl.float32)
    for chunk in range(chunks):
        at = chunk * T + t
        there = at < L
        uu = tl.load(u + row + at, mask=there, other=0.0).to(tl.float32)
        raw = tl.load(delta + row + at, mask=there, other=0.0).to(tl.float32)
        dt = tl.where(there, softplus(raw + shift), 0.0)  # past the end the map is h -> h
        bc = b.to(tl.int64) * N * L + n[:, None] * L + at[None, :]
        bt = tl.load(B + bc, mask=there[None, :], other=0.0).to(tl.float32)  # (N, T)
        ct = tl.load(C + bc, mask=there[None, :], other=0.0).to(tl.float32)
        a = tl.exp(dt[None, :] * a_n)
        x = (dt * uu)[None, :] * bt
        prod, part = tl.associative_scan((a, x), 1, compose)
        state = prod * h[:, None] + part
        y = tl.sum(ct * state, 0) + d * uu
        zz = tl.load(z + row + at, mask=there, other=0.0).to(tl.float32)
        tl.store(out + row + at, y * zz * tl.sigmoid(zz), mask=there)
        h = tl.sum(tl.where(t[None, :] == T - 1, state, 0.0), 1)
        tl.store(states + ((b * E + e).to(tl.int64) * chunks + chunk) * N + n, h)


@triton.jit
def backward_kernel(
    u, delta, A, B, C, D, z, bias, states, dout, du, ddelta, dz, dA, dB, dC, dD, dbias, E, L, chunks, N: tl.constexpr, T: tl.constexpr
):
    b, e = tl.program_id(0), tl.program_id(1)
    row = (b * E + e).to(tl.int64) * L
    d, shift = tl.load(D + e), tl.load(bias + e)
    t = tl.arange(0, T)
    n = tl.arange(0, N)
    a_n = tl.load(A + e * N + n)[:, None]
    later = tl.zeros((N,), tl.float32)  # a_t * lambda_t of the first step after the chunk
    sum_a = tl.zeros((N,), tl.float32)
    sum_d, sum_bias = 0.0, 0.0
    for back in range(chunks):
        chunk = chunks - 1 - back
        at = chunk * T + t
        there = at < L
        uu = tl.load(u + row + at, mask=there, other=0.0).to(tl.float32)
        raw = tl.load(delta + row + at, mask=there, other=0.0).to(tl.float32) + shift
        dt = tl.where(there, softplus(raw), 0.0)
        bc = b.to(tl.int64) * N * L + n[:, None] * L + at[None, :]
        bt = tl.load(B + bc, mask=there[None, :], other=0.0).to(tl.float32)
        ct = tl.load(C + bc, mask=there[None, :], other=0.0).to(tl.float32)
        a = tl.exp(dt[None, :] * a_n)
        x = (dt * uu)[None, :] * bt
        prod, part = tl.associative_scan((a, x), 1, compose)
        before = tl.load(states + ((b * E + e).to(tl.int64) * chunks + chunk - 1) * N + n, mask=n < (chunk > 0) * N, other=0.0)
        state = prod * before[:, None] + part  # h_t
        y = tl.sum(ct * state, 0) + d * uu
        zz = tl.load(z + row + at, mask=there, other=0.0).to(tl.float32)
        g = tl.load(dout + row + at, mask=there, other=0.0).to(tl.float32)
        s = tl.sigmoid(zz)
        tl.store(dz + row + at, g * y * s * (1.0 + zz * (1.0 - s)), mask=there)
        gy = g * zz * s
        # lambda_t = gy_t*C_t + a_{t+1}*lambda_{t+1}: a prefix from the right over the pairs (a_{t+1}, gy_t*C_t)
        ahead = tl.load(delta + row + at + 1, mask=at + 1 < L, other=0.0).to(tl.float32) + shift
        dt1 = tl.where(at + 1 < L, softplus(ahead), 0.0)
        a1 = tl.where(t[None, :] == T - 1, 1.0, tl.exp(dt1[None, :] * a_n))  # `later` includes the factor a_{t+1}
        prod, part = tl.associative_scan((a1, gy[None, :] * ct), 1, compose, reverse=True)
        lam = prod * later[:, None] + part
        p = state - x  # a_t * h_{t-1}
        lb = tl.sum(lam * bt, 0)
        tl.store(du + row + at, dt * lb + d * gy, mask=there)
        ddt = uu * lb + tl.sum(lam * a_n * p, 0)
        draw = ddt * tl.where(raw > 20.0, 1.0, tl.sigmoid(raw))
        tl.store(ddelta + row + at, draw, mask=there)
        tl.atomic_add(dB + bc, lam * (dt * uu)[None, :], mask=there[None, :])
        tl.atomic_add(dC + bc, gy[None, :] * state, mask=there[None, :])
        sum_a += tl.sum(lam * dt[None, :] * p, 1)
        sum_d += tl.sum(gy * uu, 0)
        sum_bias += tl.sum(tl.where(there, draw, 0.0), 0)
        later = tl.sum(tl.where(t[None, :] == 0, a * lam, 0.0), 1)
    tl.atomic_add(dA + e * N + n, sum_a)
    tl.atomic_add(dD + e, sum_d)
    tl.atomic_add(dbias + e, sum_bias)


class Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, z, bias):
        batch, E, L = u.shape
        N = A.shape[1]
        T = min(64, max(16, triton.next_power_of_2(L)))
        chunks = triton.cdiv(L, T)
        u, delta, A, B, C, z = (x.contiguous() for x in (u, delta, A, B, C, z))
        out = torch.empty_like(u)
        states = torch.empty(batch, E, chunks, N, device=u.device)
        forward_kernel[(batch, E)](u, delta, A, B, C, D, z, bias, out, states, E, L, chunks, N=N, T=T, num_warps=1)
        ctx.save_for_backward(u, delta, A, B, C, D, z, bias, states)
        ctx.T = T
        return out

    @staticmethod
    def backward(ctx, dout):
        u, delta, A, B, C, D, z, bias, states = ctx.saved_tensors
        (batch, E, L), N, chunks = u.shape, A.shape[1], states.shape[2]
        du, ddelta, dz = torch.empty_like(u), torch.empty_like(u), torch.empty_like(u)
        dA, dB, dC, dD, dbias = (torch.zeros_like(x, dtype=torch.float32) for x in (A, B, C, D, bias))
        backward_kernel[(batch, E)](
            *(u, delta, A, B, C, D, z, bias, states, dout.contiguous()), *(du, ddelta, dz, dA, dB, dC, dD, dbias), *(E, L, chunks), N=N, T=ctx.T, num_warps=1
        )
        return du, ddelta, dA, dB.to(B.dtype), dC.to(C.dtype), dD, dz, dbias


def selective_scan_triton(u, delta, A, B, C, D, z, delta_bias):
    """y*SiLU(z) with the step size softplus(delta + delta_bias). u, delta, z (B, E, L), A (E, N) < 0, B, C (B, N, L), D and
    delta_bias (E)."""
    return Scan.apply(u, delta, A, B, C, D, z, delta_bias)

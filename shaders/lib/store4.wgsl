// lib/store4 — the epilogue of the products for GPUs, which stores four elements at a time if C4 = 1: rows of c, bias
// and residual start and end at multiples of 4 elements, in both parts of c. C16 = 1 demands C4 = 1. Single stores,
// each behind its own comparison with the end, are more than half of the instructions of such a kernel. lib/results
// holds the bindings.

// The epilogue: v = sum + bias + residual; if ACT is 3 or 4, v = sum·act'(residual). `put` stores v, and act(v) if ACT
// is 1 or 2: act(v) alone, or beside v if act_at > 0.
fn with_residual(v: vec4<f32>, r: vec4<f32>) -> vec4<f32> {
    if ACT == 3u { return v * vec4(gelu_slope(r.x), gelu_slope(r.y), gelu_slope(r.z), gelu_slope(r.w)); }
    if ACT == 4u { return v * vec4(silu_slope(r.x), silu_slope(r.y), silu_slope(r.z), silu_slope(r.w)); }
    return v + r;
}
fn activated(v: vec4<f32>) -> vec4<f32> {
    if ACT == 1u { return vec4(gelu(v.x), gelu(v.y), gelu(v.z), gelu(v.w)); }
    if ACT == 2u { return vec4(silu(v.x), silu(v.y), silu(v.z), silu(v.w)); }
    return v;
}
fn put(i: u32, v: vec4<f32>) {
    if p.act_at > 0u { put4(i, v); }
    put4(p.act_at + i, activated(v));
}
// Stores one element of the result, in f32.
fn store(z: u32, m: u32, n: u32, sum: f32) {
    let i = z * p.c_stride + m * p.ldc + n;
    let at = z * p.n + n;
    var v = vec4(sum, 0.0, 0.0, 0.0);
    if p.has_bias == 1u { v.x += bias[at >> 2u][at & 3u]; }
    if ACT >= 3u || p.has_residual == 1u { v = with_residual(v, vec4(residual1(i), 0.0, 0.0, 0.0)); }
    if p.act_at > 0u { c[i >> 2u][i & 3u] = bitcast<u32>(v.x); }
    c[(p.act_at + i) >> 2u][(p.act_at + i) & 3u] = bitcast<u32>(activated(v).x);
}
// Stores columns n..n+4 of row m, except those past the end. n is a multiple of 4.
fn store4(z: u32, m: u32, n: u32, sum: vec4<f32>) {
    if m >= p.m || n >= p.n { return; }
    if C4 == 1u {
        let i = z * p.c_stride + m * p.ldc + n;
        var v = sum;
        if p.has_bias == 1u { v += bias[(z * p.n + n) >> 2u]; }
        if ACT >= 3u || p.has_residual == 1u { v = with_residual(v, residual_quad(i)); }
        put(i, v);
        return;
    }
    store(z, m, n, sum.x);
    if n + 1u < p.n { store(z, m, n + 1u, sum.y); }
    if n + 2u < p.n { store(z, m, n + 2u, sum.z); }
    if n + 3u < p.n { store(z, m, n + 3u, sum.w); }
}
// Stores columns n..n+4 of rows m..m+4, whose residuals are loaded together.
fn store_block(z: u32, m: u32, n: u32, r: mat4x4<f32>) {
    if C4 == 0u {
        store4(z, m, n, r[0]);
        store4(z, m + 1u, n, r[1]);
        store4(z, m + 2u, n, r[2]);
        store4(z, m + 3u, n, r[3]);
        return;
    }
    if m >= p.m || n >= p.n { return; }
    let at = vec4(z * p.c_stride + n) + min(vec4(m, m + 1u, m + 2u, m + 3u), vec4(p.m - 1u)) * p.ldc;
    var v = r;
    if p.has_bias == 1u {
        let add = bias[(z * p.n + n) >> 2u];
        v = mat4x4(v[0] + add, v[1] + add, v[2] + add, v[3] + add);
    }
    if ACT >= 3u || p.has_residual == 1u {
        let add = mat4x4(residual_quad(at.x), residual_quad(at.y), residual_quad(at.z), residual_quad(at.w));
        v = mat4x4(
            with_residual(v[0], add[0]), with_residual(v[1], add[1]), with_residual(v[2], add[2]),
            with_residual(v[3], add[3]),
        );
    }
    put(at.x, v[0]);
    if m + 1u < p.m { put(at.y, v[1]); }
    if m + 2u < p.m { put(at.z, v[2]); }
    if m + 3u < p.m { put(at.w, v[3]); }
}

// lib/gemm — the parts that matmul.wgsl and matmul_coop.wgsl share: scalars, bindings, loads, the epilogue.
// The header of matmul.wgsl explains the names. VEC = 1: rows of a and b start and end at multiples of 4 elements.
struct Params {
    batch: u32, m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_stride: u32, b_stride: u32, c_stride: u32,
    splits: u32, k_split: u32, has_bias: u32, has_residual: u32, act_at: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<u32>>; // f32; A16, B16, R16, C16 = 1: two f16 a word
@group(0) @binding(2) var<storage, read> b: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<u32>;
@group(0) @binding(5) var<storage, read_write> c: array<u32>;

fn a1(i: u32) -> f32 {
    return element(a[i >> (2u + A16)][(i >> A16) & 3u], i, A16);
}
fn b1(i: u32) -> f32 {
    return element(b[i >> (2u + B16)][(i >> B16) & 3u], i, B16);
}
fn residual1(i: u32) -> f32 {
    return element(residual[i >> R16], i, R16);
}

// Elements i..i+4, i a multiple of 4.
fn a_quad(i: u32) -> vec4<f32> {
    return element4(a[i >> (2u + A16)], i >> 2u, A16);
}
fn b_quad(i: u32) -> vec4<f32> {
    return element4(b[i >> (2u + B16)], i >> 2u, B16);
}

// Elements at..at+4 of the row that starts at `row`. Past `limit` they repeat the last ones. That does no harm: the
// caller zeroes k past the end, and does not store m or n past the end.
fn a4(row: u32, at: u32, limit: u32) -> vec4<f32> {
    if VEC == 1u { return a_quad(row + min(at, limit - 4u)); }
    let last = limit - 1u;
    return vec4(a1(row + min(at, last)), a1(row + min(at + 1u, last)),
                a1(row + min(at + 2u, last)), a1(row + min(at + 3u, last)));
}
fn b4(row: u32, at: u32, limit: u32) -> vec4<f32> {
    if VEC == 1u { return b_quad(row + min(at, limit - 4u)); }
    let last = limit - 1u;
    return vec4(b1(row + min(at, last)), b1(row + min(at + 1u, last)),
                b1(row + min(at + 2u, last)), b1(row + min(at + 3u, last)));
}

// The epilogue. Returns (v, act(v)) with v = sum + bias + residual. If ACT is 3 or 4, or there is no activation,
// returns (v, v), with v = sum·act'(residual) for 3 and 4.
fn finish(z: u32, n: u32, i: u32, sum: f32) -> vec2<f32> {
    var v = sum;
    if p.has_bias == 1u { v += bias[z * p.n + n]; }
    if ACT == 3u { v *= gelu_slope(residual1(i)); }
    if ACT == 4u { v *= silu_slope(residual1(i)); }
    if ACT < 3u && p.has_residual == 1u { v += residual1(i); }
    if ACT == 1u { return vec2(v, gelu(v)); }
    if ACT == 2u { return vec2(v, silu(v)); }
    return vec2(v);
}
// Stores one element of the result.
fn store(z: u32, m: u32, n: u32, sum: f32) {
    let i = z * p.c_stride + m * p.ldc + n;
    let v = finish(z, n, i, sum);
    if p.act_at > 0u { c[i] = bitcast<u32>(v.x); }
    c[p.act_at + i] = bitcast<u32>(v.y);
}
// Stores columns n..n+4 of row m, except those past the end. n, and if C16 = 1 also N and ldc, are multiples of 4.
fn store4(z: u32, m: u32, n: u32, sum: vec4<f32>) {
    if m >= p.m || n >= p.n { return; }
    if C16 == 1u {
        let i = z * p.c_stride + m * p.ldc + n;
        let v0 = finish(z, n, i, sum.x);
        let v1 = finish(z, n + 1u, i + 1u, sum.y);
        let v2 = finish(z, n + 2u, i + 2u, sum.z);
        let v3 = finish(z, n + 3u, i + 3u, sum.w);
        if p.act_at > 0u { put4(i, vec4(v0.x, v1.x, v2.x, v3.x)); }
        put4(p.act_at + i, vec4(v0.y, v1.y, v2.y, v3.y));
        return;
    }
    store(z, m, n, sum.x);
    if n + 1u < p.n { store(z, m, n + 1u, sum.y); }
    if n + 2u < p.n { store(z, m, n + 2u, sum.z); }
    if n + 3u < p.n { store(z, m, n + 3u, sum.w); }
}
fn put4(i: u32, v: vec4<f32>) {
    let words = halves(v);
    c[i >> 1u] = words.x;
    c[(i >> 1u) + 1u] = words.y;
}

// lib/store — the epilogue of the products for CPUs, which stores single elements of f32 and pairs of f16. llvmpipe
// compiles it in a third of the time that it takes for lib/store4, whose names it has, and runs it as fast.
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<u32>;
@group(0) @binding(5) var<storage, read_write> c: array<u32>;

fn residual1(i: u32) -> f32 {
    return element(residual[i >> R16], i, R16);
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
// Stores columns n..n+4 of rows m..m+4.
fn store_block(z: u32, m: u32, n: u32, r: mat4x4<f32>) {
    store4(z, m, n, r[0]);
    store4(z, m + 1u, n, r[1]);
    store4(z, m + 2u, n, r[2]);
    store4(z, m + 3u, n, r[3]);
}

// lib/gemm — what every kernel of the family matmul shares: scalars, operands, loads of four neighbours, the epilogue.
// The header of matmul.wgsl says what each means; VEC = 1 where rows of a and b are aligned and end at multiples of 4.
struct Params {
    batch: u32, m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_stride: u32, b_stride: u32, c_stride: u32,
    splits: u32, k_split: u32, has_bias: u32, has_residual: u32, act_at: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> c: array<f32>;

fn a1(i: u32) -> f32 { return a[i >> 2u][i & 3u]; }
fn b1(i: u32) -> f32 { return b[i >> 2u][i & 3u]; }

// Four neighbours row + at …; past `limit` the last ones again: the caller masks k and never stores such m or n.
fn a4(row: u32, at: u32, limit: u32) -> vec4<f32> {
    if VEC == 1u { return a[(row + min(at, limit - 4u)) >> 2u]; }
    let last = limit - 1u;
    return vec4(a1(row + min(at, last)), a1(row + min(at + 1u, last)),
                a1(row + min(at + 2u, last)), a1(row + min(at + 3u, last)));
}
fn b4(row: u32, at: u32, limit: u32) -> vec4<f32> {
    if VEC == 1u { return b[(row + min(at, limit - 4u)) >> 2u]; }
    let last = limit - 1u;
    return vec4(b1(row + min(at, last)), b1(row + min(at + 1u, last)),
                b1(row + min(at + 2u, last)), b1(row + min(at + 3u, last)));
}

// One element of the result, with what is done to it.
fn store(z: u32, m: u32, n: u32, sum: f32) {
    let i = z * p.c_stride + m * p.ldc + n;
    var v = sum;
    if p.has_bias == 1u { v += bias[z * p.n + n]; }
    if ACT == 3u { v *= gelu_slope(residual[i]); }
    if ACT == 4u { v *= silu_slope(residual[i]); }
    if ACT < 3u && p.has_residual == 1u { v += residual[i]; }
    if (ACT == 1u || ACT == 2u) && p.act_at > 0u { c[i] = v; }
    if ACT == 1u { v = gelu(v); }
    if ACT == 2u { v = silu(v); }
    c[p.act_at + i] = v;
}

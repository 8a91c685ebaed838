// lib/gemm — the parts that matmul.wgsl and matmul_coop.wgsl share: scalars, and loads of rows of the operands, which
// lib/operands reads. lib/store, or lib/results and lib/store4, hold the rest of the bindings and the epilogue.
// The header of matmul.wgsl explains the names. VEC > 0: rows of a and b start and end at multiples of 4 elements.
// VEC = 2 (matmul_coop): at multiples of 8.
struct Params {
    batch: u32, m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_stride: u32, b_stride: u32, c_stride: u32,
    splits: u32, k_split: u32, has_bias: u32, has_residual: u32, act_at: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
// Where the part of k that starts at `start` ends, in product s of the batch. In a convolution products differ.
fn k_end(s: u32, start: u32) -> u32 {
    return min(start + p.k_split, p.k);
}
// Elements at..at+4 of the row that starts at `row`. Past `limit` they repeat the last ones. That does no harm: the
// caller zeroes k past the end, and does not store m or n past the end.
fn a4(row: u32, at: u32, limit: u32) -> vec4<f32> {
    if VEC > 0u { return a_quad(row + min(at, limit - 4u)); }
    let last = limit - 1u;
    return vec4(a1(row + min(at, last)), a1(row + min(at + 1u, last)),
                a1(row + min(at + 2u, last)), a1(row + min(at + 3u, last)));
}
fn b4(row: u32, at: u32, limit: u32) -> vec4<f32> {
    if VEC > 0u { return b_quad(row + min(at, limit - 4u)); }
    let last = limit - 1u;
    return vec4(b1(row + min(at, last)), b1(row + min(at + 1u, last)),
                b1(row + min(at + 2u, last)), b1(row + min(at + 3u, last)));
}

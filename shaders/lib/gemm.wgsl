// lib/gemm — the scalars of matmul.wgsl and matmul_coop.wgsl, which matmul.wgsl explains. A convolution has its own in
// place of this file (lib/conv2d). lib/store, or lib/results and lib/store4, hold the epilogue.
struct Params {
    batch: u32, m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_stride: u32, b_stride: u32, c_stride: u32,
    splits: u32, k_split: u32, has_bias: u32, has_residual: u32, act_at: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
// Where the part of k that starts at `start` ends, in product s of the batch. In a convolution products differ.
fn k_end(s: u32, start: u32) -> u32 {
    return min(start + p.k_split, p.k);
}

// lib/gemm_blocks — the blocks that matmul.wgsl loads: those of matrices.
// Where blocks of an operand lie: their matrix, and their first row of m or n.
struct Rows { base: u32, first: u32 }
fn a_rows(s: u32, m: u32) -> Rows {
    return Rows(s * p.a_stride, m);
}
fn b_rows(s: u32, n: u32) -> Rows {
    return Rows(s * p.b_stride, n);
}
fn a_block(r: Rows, k: u32) -> mat4x4<f32> {
    return a_matrix(r.base, r.first, k);
}
fn b_block(r: Rows, k: u32) -> mat4x4<f32> {
    return b_matrix(r.base, r.first, k);
}

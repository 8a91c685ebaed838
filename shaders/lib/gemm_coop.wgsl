// lib/gemm_coop — where matmul_coop.wgsl finds the patches of its operands: in matrices, whose places do not change
// from step to step.
const ALIKE = true;                                    // the same code may load either operand
alias Places = vec4<u32>;
fn base_of(second: bool, s: u32) -> u32 {
    return s * select(p.a_stride, p.b_stride, second);
}
fn places(second: bool, o: Operand, s: u32, k: u32) -> Places {
    return matrix_places(second, o);
}
fn moved(second: bool, at: Places) -> Places {
    return at;
}
fn first_patch(second: bool, o: Operand, at: Places, k: u32, count: u32) -> Patch {
    return matrix_first(second, o, at, k, count);
}
fn next_patch(second: bool, o: Operand, at: Places, k: u32) -> Patch {
    return matrix_next(second, o, at, k);
}

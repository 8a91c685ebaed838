// lib/coop16 — cooperative-matrix fragments of 16×16: the types of lhs·rhs + sum, and the cells of workgroup memory
// from which fragments are loaded: four f16 each, so that four are stored at once. Vulkan allows that, and counts
// strides in cells.
const FRAG = 16u;
alias Lhs = coop_mat16x16<f16, A>;
alias Rhs = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;
alias Cell = vec4<f16>;
const CELL = 4u;
// Cell i of a quad.
fn cell(v: vec4<f16>, i: u32) -> Cell {
    return v;
}

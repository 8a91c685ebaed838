// lib/coop8 — cooperative-matrix fragments of 8×8: the types of lhs·rhs + sum, and the cells of workgroup memory from
// which fragments are loaded: single f16, because Metal loads a fragment only from an array of its elements.
const FRAG = 8u;
alias Lhs = coop_mat8x8<f16, A>;
alias Rhs = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;
alias Cell = f16;
const CELL = 1u;
// Cell i of a quad.
fn cell(v: vec4<f16>, i: u32) -> Cell {
    return v[i];
}

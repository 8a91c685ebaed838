// lib/coop8 — cooperative-matrix fragments of 8×8: the types of lhs·rhs + sum.
const FRAG = 8u;
alias Lhs = coop_mat8x8<f16, A>;
alias Rhs = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;

// lib/coop16 — cooperative-matrix fragments of 16×16: the types of lhs·rhs + sum.
const FRAG = 16u;
alias Lhs = coop_mat16x16<f16, A>;
alias Rhs = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;

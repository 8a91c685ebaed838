// lib/coop8 — fragments of 8×8, and the entry point of matmul_coop.wgsl that is made of them.
const FRAG = 8u;
alias Lhs = coop_mat8x8<f16, A>;
alias Rhs = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;
@compute @workgroup_size(THREADS)
fn product8(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) { product(wid, tid); }

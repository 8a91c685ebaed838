// lib/coop16 — fragments of 16×16, and the entry point of matmul_coop.wgsl that is made of them.
const FRAG = 16u;
alias Lhs = coop_mat16x16<f16, A>;
alias Rhs = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;
@compute @workgroup_size(THREADS)
fn product16(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) { product(wid, tid); }

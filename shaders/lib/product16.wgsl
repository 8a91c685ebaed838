// lib/product16 — the entry point of `product` with fragments of 16×16.
@compute @workgroup_size(THREADS)
fn product16(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) { product(wid, tid); }

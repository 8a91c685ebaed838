// lib/product8 — the entry point of `product` with fragments of 8×8.
@compute @workgroup_size(THREADS)
fn product8(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) { product(wid, tid); }

// lib/attention16 — the entry points of attention_coop.wgsl with fragments of 16×16.
@compute @workgroup_size(THREADS)
fn forward16(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) { forward(wid, tid); }
@compute @workgroup_size(THREADS)
fn dq16(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) { backward_dq(wid, tid); }
@compute @workgroup_size(THREADS)
fn dkv16(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) { backward_dkv(wid, tid); }

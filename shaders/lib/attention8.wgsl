// lib/attention8 — the entry points of attention_coop.wgsl with fragments of 8×8.
@compute @workgroup_size(THREADS)
fn forward8(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) { forward(wid, tid); }
@compute @workgroup_size(THREADS)
fn dq8(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) { backward_dq(wid, tid); }
@compute @workgroup_size(THREADS)
fn dkv8(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) { backward_dkv(wid, tid); }

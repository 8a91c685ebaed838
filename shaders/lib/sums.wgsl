// lib/sums — the products of matmul.wgsl in the form Tn that also write the sums of a over k.
const SUMS = 1u;
@group(0) @binding(9) var<storage, read_write> sums: array<f32>;     // (splits, batch, M)

// Stores the sums of rows m..m+4, except those past the end.
fn put_sums(z: u32, m: u32, v: vec4<f32>) {
    for (var i = 0u; i < 4u && m + i < p.m; i++) { sums[z * p.m + m + i] = v[i]; }
}

@compute @workgroup_size(16)
fn direct_sums(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    direct_block(wid, tid);
}

@compute @workgroup_size(THREADS)
fn tiled_sums(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    tile(wid, tid);
}

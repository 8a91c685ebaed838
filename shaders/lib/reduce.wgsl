// lib/reduce — sum and maximum over a workgroup, returned to every invocation. The operator declares `const WG`, a
// power of two. `tid` is the local_invocation_index.
// The order is fixed: a binary tree in workgroup memory. All invocations of a workgroup must call it, because it has
// barriers.
var<workgroup> sh_reduce: array<vec2<f32>, WG>;
fn wg_sum2(tid: u32, v: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();                                  // until all have read the result of the previous call
    sh_reduce[tid] = v;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if tid < half { sh_reduce[tid] += sh_reduce[tid + half]; }
    }
    workgroupBarrier();
    return sh_reduce[0];
}
fn wg_sum(tid: u32, v: f32) -> f32 {
    return wg_sum2(tid, vec2(v, 0.0)).x;
}
fn wg_max(tid: u32, v: f32) -> f32 {
    workgroupBarrier();
    sh_reduce[tid].x = v;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if tid < half { sh_reduce[tid].x = max(sh_reduce[tid].x, sh_reduce[tid + half].x); }
    }
    workgroupBarrier();
    return sh_reduce[0].x;
}

// lib/reduce — sum and maximum over a workgroup, returned to every invocation. The operator declares `const WG`, a
// power of two.
// The order is fixed: a binary tree in workgroup memory. All invocations of a workgroup must call it, because it has
// barriers.
// Thread does not contain workgroup_id, because a browser's compiler treats a struct with one non-uniform member as
// non-uniform as a whole, and rejects barriers behind conditions on workgroup_id then.
struct Thread {
    @builtin(local_invocation_index) tid: u32,
}
var<workgroup> sh_reduce: array<vec2<f32>, WG>;
fn wg_sum2(t: Thread, v: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();                                  // until all have read the result of the previous call
    sh_reduce[t.tid] = v;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if t.tid < half { sh_reduce[t.tid] += sh_reduce[t.tid + half]; }
    }
    workgroupBarrier();
    return sh_reduce[0];
}
fn wg_sum(t: Thread, v: f32) -> f32 {
    return wg_sum2(t, vec2(v, 0.0)).x;
}
fn wg_max(t: Thread, v: f32) -> f32 {
    workgroupBarrier();
    sh_reduce[t.tid].x = v;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if t.tid < half { sh_reduce[t.tid].x = max(sh_reduce[t.tid].x, sh_reduce[t.tid + half].x); }
    }
    workgroupBarrier();
    return sh_reduce[0].x;
}

// lib/reduce — sum and maximum over a workgroup, returned to every invocation. Needs `const WG`, a power of two, in the
// op.
// The order is fixed: a binary tree in workgroup memory. Every invocation of the workgroup has to call (barriers).
// Thread has no workgroup_id: a browser's compiler takes a struct with one varying member for varying as a whole, and
// then rejects barriers behind conditions on it.
struct Thread {
    @builtin(local_invocation_index) tid: u32,
}
var<workgroup> sh_reduce: array<vec2<f32>, WG>;
fn wg_sum2(t: Thread, v: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();                                  // all have read the previous call's result
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

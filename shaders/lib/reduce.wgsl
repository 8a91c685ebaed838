// lib/reduce — sums over a workgroup, the same in every invocation. Needs `const WG`, a power of two, in the op.
// Fixed order: a binary tree over workgroup memory. Every invocation of the workgroup has to call.
// Not workgroup_id: a browser's compiler takes a struct with any varying member for varying as a whole, and barriers
// behind conditions on it for errors.
struct Thread {
    @builtin(local_invocation_index) tid: u32,
}
var<workgroup> sh_reduce: array<vec2<f32>, WG>;
fn wg_sum2(t: Thread, v: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();                                  // the previous call's readers are done
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

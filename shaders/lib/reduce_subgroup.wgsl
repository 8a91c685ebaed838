// lib/reduce_subgroup — lib/reduce for the subgroup tier: one subgroup sum (a CUDA warp reduction), then a loop over
// one slot per subgroup.
// Works for any subgroup size; the order is fixed for a given adapter. Needs `const WG` in the op.
// Thread has no workgroup_id: a browser's compiler takes a struct with one varying member for varying as a whole, and
// then rejects barriers behind conditions on it.
struct Thread {
    @builtin(local_invocation_index) tid: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
}
var<workgroup> sh_reduce: array<vec2<f32>, WG>;
fn wg_sum2(t: Thread, v: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();                                  // all have read the previous call's result
    let part = subgroupAdd(v);
    if t.lane == 0u { sh_reduce[t.subgroup] = part; }
    workgroupBarrier();
    var sum = sh_reduce[0];
    for (var i = 1u; i < t.subgroups; i++) { sum += sh_reduce[i]; }
    return sum;
}
fn wg_sum(t: Thread, v: f32) -> f32 {
    return wg_sum2(t, vec2(v, 0.0)).x;
}
fn wg_max(t: Thread, v: f32) -> f32 {
    workgroupBarrier();
    let part = subgroupMax(v);
    if t.lane == 0u { sh_reduce[t.subgroup].x = part; }
    workgroupBarrier();
    var most = sh_reduce[0].x;
    for (var i = 1u; i < t.subgroups; i++) { most = max(most, sh_reduce[i].x); }
    return most;
}

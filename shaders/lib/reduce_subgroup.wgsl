// lib/reduce_subgroup — lib/reduce for the subgroup tier: a reduction in each subgroup (a CUDA warp reduction), then a
// loop over one result per subgroup.
// Works for any subgroup size. The order is fixed for a given adapter. The operator declares `const WG`.
// Thread does not contain workgroup_id, for the reason given in lib/reduce.
struct Thread {
    @builtin(local_invocation_index) tid: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
}
var<workgroup> sh_reduce: array<vec2<f32>, WG>;
fn wg_sum2(t: Thread, v: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();                                  // until all have read the result of the previous call
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

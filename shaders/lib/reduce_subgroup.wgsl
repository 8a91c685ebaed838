// lib/reduce_subgroup — lib/reduce for the subgroup tier: a reduction in each subgroup (a CUDA warp reduction), then a
// loop over one result per subgroup.
// Works for any subgroup size. The order is fixed for a given adapter. The operator declares `const WG`.
// Subgroups are consecutive invocations, which the self-test of the tier checks. So the place of a subgroup follows
// from `tid` and the number of its lanes, and no built-in value of subgroups is needed: naga 30 cannot write these for
// DX12 unless they are arguments of the entry point.
var<workgroup> sh_reduce: array<vec2<f32>, WG>;
// Writes a subgroup's result and returns the number of subgroups. Shifts, because the number of lanes is a power of two
// that compilers do not know.
fn put(tid: u32, part: vec2<f32>) -> u32 {
    let lanes = subgroupAdd(1u);
    let log = countTrailingZeros(lanes);
    if (tid & (lanes - 1u)) == 0u { sh_reduce[tid >> log] = part; }
    workgroupBarrier();
    return WG >> log;
}
fn wg_sum2(tid: u32, v: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();                                  // until all have read the result of the previous call
    let subgroups = put(tid, subgroupAdd(v));
    var sum = sh_reduce[0];
    for (var i = 1u; i < subgroups; i++) { sum += sh_reduce[i]; }
    return sum;
}
fn wg_sum(tid: u32, v: f32) -> f32 {
    return wg_sum2(tid, vec2(v, 0.0)).x;
}
fn wg_max(tid: u32, v: f32) -> f32 {
    workgroupBarrier();
    let subgroups = put(tid, vec2(subgroupMax(v), 0.0));
    var most = sh_reduce[0].x;
    for (var i = 1u; i < subgroups; i++) { most = max(most, sh_reduce[i].x); }
    return most;
}

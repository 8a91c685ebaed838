// selftest_subgroup — out (256) = 1 + 2 + … + 256, by lib/reduce_subgroup. An invocation writes 0 instead if the lanes
// of its subgroup are not consecutive invocations in order, or if a shuffle does not return its partner's value.
// lib/scan_sums_subgroup relies on both.
struct Params { n: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(WG)
fn run(
    @builtin(local_invocation_index) tid: u32, @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let sum = wg_sum(tid, f32(tid + 1u + p.n));
    let partner = subgroupShuffleXor(tid, size / 2u);
    out[tid] = select(0.0, sum, lane == tid % size && partner == (tid ^ (size / 2u)));
}

// selftest_subgroup — 1 + 2 + … + 256 through lib/reduce_subgroup, written by every invocation.
struct Params { n: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(WG)
fn run(t: Thread) {
    out[t.tid] = wg_sum(t, f32(t.tid + 1u + p.n));
}

// selftest_half — x (256) as f16, two per word, as the driver's own conversion makes them, through lib/half. Only a
// driver that rounds to the nearest may use its own conversion elsewhere.
// uses lib/half
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec2<u32>>;
@compute @workgroup_size(64)
fn run(@builtin(local_invocation_index) tid: u32) {
    out[tid] = halves(x[tid + p.n]);
}

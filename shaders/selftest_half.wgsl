// selftest_half — converts x (256) to f16, two per word, by the driver's own conversion (lib/half with NEAREST = 1).
// Other kernels use that conversion only if it rounds to nearest here.
// uses lib/half
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec2<u32>>;
@compute @workgroup_size(64)
fn run(@builtin(local_invocation_index) tid: u32) {
    out[tid] = halves(x[tid + p.n]);
}

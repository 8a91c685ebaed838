// scale — a tensor times a constant, element by element (c * a).
//   a, y (n)   y = c·a. Backward, da = c·dy, is the same kernel with dy bound as a; it overwrites da. Saves nothing.
// One invocation per element. Floor: 8 bytes per element.
// uses lib/grid
struct Params { n: u32, c: f32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { y[i] = p.c * a[i]; }
}

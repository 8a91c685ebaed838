// add — the sum of two tensors, element by element.
//   a, b, y (n)   y = a + b;  backward launches nothing of its own: da = db = dy
// One invocation per element. Floor: 12 bytes.
// uses lib/grid
struct Params { n: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { y[i] = a[i] + b[i]; }
}

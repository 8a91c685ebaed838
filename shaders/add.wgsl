// add — the sum of two tensors, element by element.
//   a, b, y (n)   y = a + b;  backward launches nothing of its own: da = db = dy
//   kept:   y = a + keep·b, keep (n / per): a factor per sample, DropPath's;  da = dy
//   keep_backward:  db = keep·dy
// One invocation per element. Floor: 12 bytes, keep_backward 8. All assign.
// uses lib/grid
struct Params { n: u32, per: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;             // a, or dy
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;       // y, or db
@group(0) @binding(4) var<storage, read> keep: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { y[i] = a[i] + b[i]; }
}

@compute @workgroup_size(WG)
fn kept(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { y[i] = a[i] + keep[i / p.per] * b[i]; }
}

@compute @workgroup_size(WG)
fn keep_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { y[i] = keep[i / p.per] * a[i]; }
}

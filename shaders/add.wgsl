// add — the sum of two tensors, element by element (a + b), or with DropPath on b (timm: a + drop_path(b)).
//   a, b, y (n)   y = a + b;  da = db = dy needs no launch
//   drop_path_forward:   y = a + drop_path·b,  drop_path (n / per): DropPath's factor of each sample of `per`
//                        elements;  da = dy
//   drop_path_backward:  db = drop_path·dy. It overwrites db and does not accumulate. Saves drop_path.
// One invocation per element. Floor: 12 bytes per element, drop_path_backward 8.
// uses lib/grid
struct Params { n: u32, per: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;             // a; in drop_path_backward dy
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;       // y; in drop_path_backward db
@group(0) @binding(4) var<storage, read> drop_path: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { y[i] = a[i] + b[i]; }
}

@compute @workgroup_size(WG)
fn drop_path_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { y[i] = a[i] + drop_path[i / p.per] * b[i]; }
}

@compute @workgroup_size(WG)
fn drop_path_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { y[i] = drop_path[i / p.per] * a[i]; }
}

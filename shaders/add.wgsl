// add — the sum of two tensors, element by element (a + b), or with DropPath on b (timm: a + drop_path(b)).
//   a, b, y (n)   y = a + b;  da = db = dy needs no launch
//   drop_path_forward:   y = a + drop_path·b,  drop_path (n / per): DropPath's factor of each sample of `per`
//                        elements;  da = dy
//   drop_path_backward:  db = drop_path·dy. It overwrites db and does not accumulate. Saves drop_path.
//   A16, B16, Y16 = 1    the array holds f16, two in a word. If y does, n and `per` are even.
// One invocation per element, or per word of y if Y16 = 1. Floor: 12 bytes per element, drop_path_backward 8, in f32.
// uses lib/grid, lib/half, lib/element
struct Params { n: u32, per: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<u32>;             // a; in drop_path_backward dy
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;       // y; in drop_path_backward db
@group(0) @binding(4) var<storage, read> drop_path: array<f32>;

// Element i, and i + 1 if y holds f16.
fn a2(i: u32) -> vec2<f32> {
    return vec2(element(a[i >> A16], i, A16), element(a[(i + Y16) >> A16], i + Y16, A16));
}
fn b2(i: u32) -> vec2<f32> {
    return vec2(element(b[i >> B16], i, B16), element(b[(i + Y16) >> B16], i + Y16, B16));
}
fn put(i: u32, v: vec2<f32>) {
    if Y16 == 1u { y[i >> 1u] = pair(v); } else { y[i] = bitcast<u32>(v.x); }
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (grid_row(wid) * WG + tid) * (1u + Y16);
    if i < p.n { put(i, a2(i) + b2(i)); }
}

@compute @workgroup_size(WG)
fn drop_path_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (grid_row(wid) * WG + tid) * (1u + Y16);
    if i < p.n { put(i, a2(i) + drop_path[i / p.per] * b2(i)); }
}

@compute @workgroup_size(WG)
fn drop_path_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (grid_row(wid) * WG + tid) * (1u + Y16);
    if i < p.n { put(i, drop_path[i / p.per] * a2(i)); }
}

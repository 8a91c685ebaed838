// dropout — features times factors that are given: 0 for those that are dropped, 1/(1 − p) for the others (F.dropout
// and F.dropout2d with a known mask).
//   shapes    x, y (B, L, C)   factors (B, C)
//   forward   y[b,l,c] = x[b,l,c]·factors[b,c].  backward  dx is the same function of dy.
//   saves     factors
//   threads   one invocation per element
//   floor     per element 8 bytes, in either direction
// uses lib/grid
struct Params { n: u32, l: u32, c: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

fn scaled(wid: vec3<u32>, tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    y[i] = x[i] * factors[i / (p.l * p.c) * p.c + i % p.c];
}
@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) { scaled(wid, tid); }
@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) { scaled(wid, tid); }

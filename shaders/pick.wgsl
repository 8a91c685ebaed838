// pick — one channel of each sample, by its index: the mask of an object's class.
//   shapes    x, dx (R, P, K)   index (R)   y, dy (R, P)
//   forward   y[r, i] = x[r, i, index[r]]; 0 where the index is not below K
//   backward  dx[r, i, k] = dy[r, i] where k = index[r], else 0. It overwrites dx.
//   saves     nothing
//   threads   one invocation per element of the result
//   floor     8 bytes per element of y forward; backward 4 per element of x
// uses lib/grid
struct Params { n: u32, points: u32, k: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;                        // n: elements written
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let k = index[i / p.points];
    y[i] = select(0.0, x[i * p.k + min(k, p.k - 1u)], k < p.k);
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let point = i / p.k;
    dx[i] = select(0.0, dy[point], index[point / p.points] == i % p.k);
}

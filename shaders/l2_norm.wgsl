// l2_norm — rows scaled to unit length (F.normalize(x, dim=-1)).
//   shapes    x, y, dx, dy (rows, D)   rate (rows)
//   forward   y = x·r,  r = 1/max(‖x‖, 1e-12)
//   backward  dx = r·(dy − y·(y·dy));  if ‖x‖ < 1e-12, r is a constant and dx = r·dy. dx is overwritten.
//   saves     y, which the caller keeps anyway, and rate = r
//   threads   one workgroup per row
//   floor     8 bytes per element forward, 12 backward
// uses lib/grid, lib/reduce
struct Params { rows: u32, d: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> rate: array<f32>;
@group(0) @binding(4) var<storage, read> saved_y: array<f32>;
@group(0) @binding(5) var<storage, read> saved_rate: array<f32>;
@group(0) @binding(6) var<storage, read> dy: array<f32>;
@group(0) @binding(7) var<storage, read_write> dx: array<f32>;

const MOST = 1e12;

@compute @workgroup_size(WG)
fn forward(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let row = grid_row(wid);
    if row >= p.rows { return; }
    let at = row * p.d;
    var square = 0.0;
    for (var c = tid; c < p.d; c += WG) { square += x[at + c] * x[at + c]; }
    square = wg_sum(tid, square);
    var r = MOST;
    if square > 1e-24 { r = inverseSqrt(square); }
    for (var c = tid; c < p.d; c += WG) { y[at + c] = x[at + c] * r; }
    if tid == 0u { rate[row] = r; }
}

@compute @workgroup_size(WG)
fn backward(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let row = grid_row(wid);
    if row >= p.rows { return; }
    let at = row * p.d;
    let r = saved_rate[row];
    var along = 0.0;
    for (var c = tid; c < p.d; c += WG) { along += saved_y[at + c] * dy[at + c]; }
    along = wg_sum(tid, along);
    if r >= MOST { along = 0.0; }
    for (var c = tid; c < p.d; c += WG) { dx[at + c] = r * (dy[at + c] - saved_y[at + c] * along); }
}

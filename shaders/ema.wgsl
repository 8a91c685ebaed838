// ema — a weighted sum kept in place, element by element, over flat arrays: average <- keep·average + take·x.
//   average, x (n)     factors (2) = (keep, take), in a buffer so that a replayed program can use other values
//   (m, 1−m)              the exponential moving average of weights (timm's ModelEma, MoCo's momentum encoder)
//   (0, c), (1, c), …     c·Σ over several x; keep = 0 ignores the old average even if it is NaN
// No backward. One invocation per element. Floor: 12 bytes per element.    uses lib/grid
struct Params { n: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
@group(0) @binding(3) var<storage, read_write> average: array<f32>;

@compute @workgroup_size(WG)
fn update(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let keep = factors[0];
    var sum = factors[1] * x[i];
    if keep != 0.0 { sum += keep * average[i]; }
    average[i] = sum;
}

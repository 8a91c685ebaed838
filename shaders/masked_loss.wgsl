// masked_loss — losses of the rows that count: the binary cross-entropy of logits (F.binary_cross_entropy_with_logits)
// and absolute differences (F.l1_loss).
//   shapes    x, target, dx (R, D)   weight (R)   counts (any)   loss, dloss (1)
//   forward   loss = Σ weight[row]·l(x, target)·scale, scale = 1/(divisor·Σ counts), or 0 where that is 0. The launcher
//             says whether there are counts; else their sum is 1.
//             FORM 0  l = max(x, 0) − x·target + ln(1 + e^−|x|), dl = σ(x) − target
//             FORM 1  l = |x − target|, dl = sign(x − target), 0 at 0
//   backward  dx = dloss·scale·weight[row]·dl. It overwrites dx.
//   saves     scale (1)
//   threads   forward: workgroups of 256 in a stride loop; finish: one workgroup; backward: one invocation per element
//   floor     8 bytes per element forward, 12 backward
// uses lib/grid, lib/reduce, lib/math
struct Params { n: u32, d: u32, groups: u32, counts: u32, divisor: f32 } // counts: how many there are
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> tgt: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> part: array<f32>;
@group(0) @binding(5) var<storage, read> parts: array<f32>;
@group(0) @binding(6) var<storage, read> counts: array<f32>;
@group(0) @binding(7) var<storage, read_write> loss: array<f32>;
@group(0) @binding(8) var<storage, read_write> scale: array<f32>;
@group(0) @binding(9) var<storage, read> saved_scale: array<f32>;
@group(0) @binding(10) var<storage, read> dloss: array<f32>;
@group(0) @binding(11) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    var mine = 0.0;
    for (var i = wid.x * WG + tid; i < p.n; i += p.groups * WG) {
        let w = weight[i / p.d];
        if w == 0.0 { continue; }                                     // also where x is not finite
        let v = x[i];
        let t = tgt[i];
        if FORM == 0u { mine += w * (max(v, 0.0) - v * t + log1p(exp(-abs(v)))); } else { mine += w * abs(v - t); }
    }
    let total = wg_sum(tid, mine);
    if tid == 0u { part[wid.x] = total; }
}

@compute @workgroup_size(WG)
fn finish(@builtin(local_invocation_index) tid: u32) {
    var mine = vec2(0.0);
    for (var i = tid; i < p.groups; i += WG) { mine.x += parts[i]; }
    for (var i = tid; i < p.counts; i += WG) { mine.y += counts[i]; }
    let total = wg_sum2(tid, mine);
    if tid == 0u {
        let divisor = p.divisor * select(total.y, 1.0, p.counts == 0u);
        let share = select(1.0 / divisor, 0.0, divisor == 0.0);
        loss[0] = total.x * share;
        scale[0] = share;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let w = weight[i / p.d];
    var slope = 0.0;
    if w != 0.0 {
        if FORM == 0u { slope = sigmoid(x[i]) - tgt[i]; } else { slope = sign(x[i] - tgt[i]); }
    }
    dx[i] = dloss[0] * saved_scale[0] * w * slope;
}

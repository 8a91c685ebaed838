// mse_norm — masked MSE against per-patch normalised pixels (MAE's norm_pix_loss).
//   pred, dpred (rows, cols), column (py·P + px)·C + c: channel fastest     tgt (rows, cols), column (c·P + py)·P + px
//   mask (rows), 0 = does not count; its row is not read     loss, dloss (rows)     cols = C·P·P     scale = 1/Σ mask
//   t^ = (tgt − mean)·rstd,  rstd = 1/√(var + 1e-6),  var unbiased (÷ cols−1);  or tgt itself
//        Patches may be nearly constant: everything is relative to the patch's first number, the variance a second pass.
//   forward:   loss = mask·scale·mean_c (pred − t^)²
//   backward:  dpred = dloss·mask·scale·2/cols·(pred − t^)
//   target:    t^ itself (rows, cols), in the columns of pred, for losses of another kind
// Saves stat (rows) = (mean − first, rstd). Backward assigns, never adds. Forward, target: one workgroup per row. Backward: one
// invocation per element. Floor per element that counts: 8 bytes forward and target, 12 backward (4 where the mask is 0).
// uses lib/grid, lib/reduce
struct Params { rows: u32, cols: u32, channels: u32, normalise: u32, scale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> pred: array<f32>;
@group(0) @binding(2) var<storage, read> tgt: array<f32>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read_write> stat: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> loss: array<f32>;
@group(0) @binding(6) var<storage, read> saved_stat: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read> dloss: array<f32>;
@group(0) @binding(8) var<storage, read_write> dpred: array<f32>;
@group(0) @binding(9) var<storage, read_write> out: array<f32>;

// where tgt keeps what column i of pred predicts
fn column(i: u32) -> u32 {
    return i % p.channels * (p.cols / p.channels) + i / p.channels;
}

// number i of the patch at `at`, relative to its first where it will be normalised
fn pixel(at: u32, i: u32) -> f32 {
    return tgt[at + i] - select(0.0, tgt[at], p.normalise > 0u);
}

// (mean − first, rstd) of the patch at `at`
fn statistics(t: Thread, at: u32) -> vec2<f32> {
    if p.normalise == 0u { return vec2(0.0, 1.0); }
    var total = 0.0;
    for (var i = t.tid; i < p.cols; i += WG) { total += pixel(at, i); }
    let mean = wg_sum(t, total) / f32(p.cols);
    var square = 0.0;
    for (var i = t.tid; i < p.cols; i += WG) {
        let d = pixel(at, i) - mean;
        square += d * d;
    }
    return vec2(mean, inverseSqrt(wg_sum(t, square) / f32(p.cols - 1u) + 1e-6));
}

@compute @workgroup_size(WG)
fn forward(t: Thread, @builtin(workgroup_id) wid: vec3<u32>) {
    let row = grid_row(wid);
    if row >= p.rows { return; }
    let counts = mask[row];
    if counts == 0.0 {
        if t.tid == 0u {
            stat[row] = vec2(0.0, 1.0);
            loss[row] = 0.0;
        }
        return;
    }
    let at = row * p.cols;
    let s = statistics(t, at);
    var error = 0.0;
    for (var i = t.tid; i < p.cols; i += WG) {
        let d = pred[at + i] - (pixel(at, column(i)) - s.x) * s.y;
        error += d * d;
    }
    error = wg_sum(t, error);
    if t.tid == 0u {
        stat[row] = s;
        loss[row] = counts * p.scale * error / f32(p.cols);
    }
}

@compute @workgroup_size(WG)
fn target_forward(t: Thread, @builtin(workgroup_id) wid: vec3<u32>) {
    let row = grid_row(wid);
    if row >= p.rows { return; }
    let at = row * p.cols;
    let s = statistics(t, at);
    for (var i = t.tid; i < p.cols; i += WG) { out[at + i] = (pixel(at, column(i)) - s.x) * s.y; }
}

@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    let row = i / p.cols;
    if row >= p.rows { return; }
    var d = 0.0;
    let counts = mask[row];
    if counts != 0.0 {
        let s = saved_stat[row];
        let at = row * p.cols;
        d = pred[i] - (pixel(at, column(i - at)) - s.x) * s.y;
        d *= dloss[row] * counts * p.scale * 2.0 / f32(p.cols);
    }
    dpred[i] = d;
}

// mse_norm — mean squared error of masked patches against pixels normalized per patch (MAE's norm_pix_loss).
//   shapes    pred, dpred (rows, cols), column (py·P + px)·C + c: channel fastest     cols = C·P·P     scale = 1/Σ mask
//             tgt (rows, cols), column (c·P + py)·P + px     loss, dloss (rows)
//             mask (rows): the weight of a row. Rows of weight 0 are not read.
//   forward   t^ = (tgt − mean)·rstd,  rstd = 1/√(var + eps),  var unbiased (÷ cols−1);  without `normalize`, t^ = tgt
//             loss = mask·scale·mean_c (pred − t^)²: the share of a row
//             A patch may be nearly constant. So that no digits cancel, mean and var are computed relative to its first
//             pixel, and var in a second pass.
//   backward  dpred = dloss·mask·scale·2/cols·(pred − t^). Overwrites dpred.
//   target    out (rows, cols) = t^ in the column order of pred, for other losses
//   saves     stat (rows) = (mean − first pixel, rstd)
//   threads   forward, target_forward: one workgroup per row. backward: one invocation per element.
//   floor     per element of a row with mask ≠ 0: 8 bytes forward and target, 12 backward. With mask 0: 4 backward.
// uses lib/grid, lib/reduce
struct Params { rows: u32, cols: u32, channels: u32, normalize: u32, scale: f32, eps: f32 }
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

// The column of tgt that corresponds to column i of pred.
fn column(i: u32) -> u32 {
    return i % p.channels * (p.cols / p.channels) + i / p.channels;
}

// Pixel i of the patch that starts at `at`, minus its first pixel if patches are normalized.
fn pixel(at: u32, i: u32) -> f32 {
    return tgt[at + i] - select(0.0, tgt[at], p.normalize > 0u);
}

// (mean − first pixel, rstd) of the patch that starts at `at`.
fn statistics(tid: u32, at: u32) -> vec2<f32> {
    if p.normalize == 0u { return vec2(0.0, 1.0); }
    var total = 0.0;
    for (var i = tid; i < p.cols; i += WG) { total += pixel(at, i); }
    let mean = wg_sum(tid, total) / f32(p.cols);
    var square = 0.0;
    for (var i = tid; i < p.cols; i += WG) {
        let d = pixel(at, i) - mean;
        square += d * d;
    }
    return vec2(mean, inverseSqrt(wg_sum(tid, square) / f32(p.cols - 1u) + p.eps));
}

@compute @workgroup_size(WG)
fn forward(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let row = grid_row(wid);
    if row >= p.rows { return; }
    let counts = mask[row];
    if counts == 0.0 {
        if tid == 0u {
            stat[row] = vec2(0.0, 1.0);
            loss[row] = 0.0;
        }
        return;
    }
    let at = row * p.cols;
    let s = statistics(tid, at);
    var error = 0.0;
    for (var i = tid; i < p.cols; i += WG) {
        let d = pred[at + i] - (pixel(at, column(i)) - s.x) * s.y;
        error += d * d;
    }
    error = wg_sum(tid, error);
    if tid == 0u {
        stat[row] = s;
        loss[row] = counts * p.scale * error / f32(p.cols);
    }
}

@compute @workgroup_size(WG)
fn target_forward(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let row = grid_row(wid);
    if row >= p.rows { return; }
    let at = row * p.cols;
    let s = statistics(tid, at);
    for (var i = tid; i < p.cols; i += WG) { out[at + i] = (pixel(at, column(i)) - s.x) * s.y; }
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

// batch_norm — normalizes each channel over all pixels of a batch (F.batch_norm), with the statistics of the batch in
// training and with running statistics in evaluation. Channels come last, so a map (B, H, W, C) is rows (B·H·W, C).
//   shapes    x, y, dy, dx (rows, C)   w, b, dw, db, running_mean, running_var (C)
//   forward   y = act(v),  v = n·w + b,  n = (x − μ)·r,  r = 1/√(var + eps)
//             training: μ and var of the rows, var biased (÷ rows).  running_mean <- keep·running_mean + take·μ,
//             running_var <- keep·running_var + take·var·rows/(rows − 1), with keep = 1 − momentum, take = momentum
//             evaluation: μ = running_mean, var = running_var
//   backward  dv = dy·act'(v), v computed again    db = Σ dv    dw = Σ dv·n
//             dx = w·r·(dv − share·(db + n·dw)),  share = 1/rows, in evaluation 0
//             Gradients are overwritten, not accumulated.
//   saves     x, and stat (C) = (shift, μ − shift, r): the shift is a value of the channel, its first row's, so that a
//             mean far from 0 costs no digits: x − shift is exact, and all else is of the size of the deviation.
//   moments   Two passes over every 8 rows, which registers hold: their mean, then the squares of what is left. The
//             moments of rows, of chunks of rows and of groups of chunks are merged in a fixed order (Chan et al.
//             1983), so x is read once, and no square of a mean is ever subtracted.
//   threads   moments, sums: a lane per chunk of rows and channel, neighboring lanes neighboring channels. statistics,
//             gradients: 16 × 16 lanes per 16 channels merge the chunks. normalize, backward: a lane per element, or
//             per word if HALF = 1.
//   HALF = 1  x, y, dy and dx hold f16, two in a word, and C is even. Statistics, sums and parameters are f32.
//   floor     per element: 12 bytes forward in training (8 in evaluation), 20 backward; half of that in f16
//   const ACT: the activation. 0: none, v; 1: ReLU; 2: SiLU; 3: GELU by tanh. So a map of v is never stored.
// uses lib/grid, lib/math, lib/half, lib/element
struct Params { rows: u32, c: u32, chunk: u32, chunks: u32, eps: f32, keep: f32, take: f32, unbiased: f32, share: f32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;                            // unbiased = rows/(rows − 1)
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> part: array<f32>;         // (chunks, 2, C): moments, or sums
@group(0) @binding(5) var<storage, read> parts: array<f32>;
@group(0) @binding(6) var<storage, read_write> stat: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> saved_stat: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(9) var<storage, read_write> running_var: array<f32>;
@group(0) @binding(10) var<storage, read> given_mean: array<f32>;        // the running statistics, in evaluation
@group(0) @binding(11) var<storage, read> given_var: array<f32>;
@group(0) @binding(12) var<storage, read_write> y: array<u32>;
@group(0) @binding(13) var<storage, read> dy: array<u32>;
@group(0) @binding(14) var<storage, read> sum_w: array<f32>;             // dw and db, as backward reads them
@group(0) @binding(15) var<storage, read> sum_b: array<f32>;
@group(0) @binding(16) var<storage, read_write> dx: array<u32>;
@group(0) @binding(17) var<storage, read_write> dw: array<f32>;
@group(0) @binding(18) var<storage, read_write> db: array<f32>;

// Element i of x and of dy.
fn x1(i: u32) -> f32 {
    return element(x[i >> HALF], i, HALF);
}
fn dy1(i: u32) -> f32 {
    return element(dy[i >> HALF], i, HALF);
}

// Number, mean and summed squared deviations of some values.
struct Moments { count: f32, mean: f32, squares: f32 }
fn merged(one: Moments, two: Moments) -> Moments {
    let count = one.count + two.count;
    let share = two.count / max(count, 1.0);
    let apart = two.mean - one.mean;
    return Moments(count, one.mean + apart * share, one.squares + two.squares + apart * apart * one.count * share);
}

@compute @workgroup_size(64)
fn moments(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let lane = grid_row(wid) * 64u + tid;
    let chunk = lane / p.c;
    let c = lane % p.c;
    if chunk >= p.chunks { return; }
    let shift = x1(c);
    let end = min((chunk + 1u) * p.chunk, p.rows);
    var all = Moments(0.0, 0.0, 0.0);
    for (var row = chunk * p.chunk; row < end; row += 8u) {
        let count = min(end - row, 8u);
        var v: array<f32, 8>;
        var total = 0.0;
        for (var i = 0u; i < 8u; i++) {
            v[i] = 0.0;
            if i < count { v[i] = x1((row + i) * p.c + c) - shift; }
            total += v[i];
        }
        let mean = total / f32(count);
        var squares = 0.0;
        for (var i = 0u; i < 8u; i++) {
            if i < count { squares += (v[i] - mean) * (v[i] - mean); }
        }
        all = merged(all, Moments(f32(count), mean, squares));
    }
    part[chunk * 2u * p.c + c] = all.mean;
    part[(chunk * 2u + 1u) * p.c + c] = all.squares;
}

var<workgroup> sh_moments: array<Moments, WG>;
// The moments of channel c. The result is valid in the first 16 invocations, each of which has its own channel.
fn of_chunks(c: u32, tid: u32) -> Moments {
    var all = Moments(0.0, 0.0, 0.0);
    if c < p.c {
        for (var chunk = tid / 16u; chunk < p.chunks; chunk += 16u) {
            let count = f32(min(p.chunk, p.rows - chunk * p.chunk));
            let at = chunk * 2u * p.c + c;
            all = merged(all, Moments(count, parts[at], parts[at + p.c]));
        }
    }
    sh_moments[tid] = all;
    workgroupBarrier();
    if tid < 16u {
        for (var i = 1u; i < 16u; i++) { all = merged(all, sh_moments[i * 16u + tid]); }
    }
    return all;
}
fn inverse_deviation(squares: f32) -> f32 {
    return 1.0 / sqrt(squares / f32(p.rows) + p.eps);
}

@compute @workgroup_size(WG)
fn statistics(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let c = wid.x * 16u + tid % 16u;
    let all = of_chunks(c, tid);
    if tid >= 16u || c >= p.c { return; }
    stat[c] = vec4(x1(c), all.mean, inverse_deviation(all.squares), 0.0);
}

@compute @workgroup_size(WG)
fn statistics_running(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let c = wid.x * 16u + tid % 16u;
    let all = of_chunks(c, tid);
    if tid >= 16u || c >= p.c { return; }
    stat[c] = vec4(x1(c), all.mean, inverse_deviation(all.squares), 0.0);
    running_mean[c] = p.keep * running_mean[c] + p.take * (x1(c) + all.mean);
    running_var[c] = p.keep * running_var[c] + p.take * (all.squares / f32(p.rows) * p.unbiased);
}

@compute @workgroup_size(WG)
fn statistics_given(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let c = grid_row(wid) * WG + tid;
    if c < p.c { stat[c] = vec4(given_mean[c], 0.0, 1.0 / sqrt(given_var[c] + p.eps), 0.0); }
}

// n of element i, which is in channel c.
fn standard(i: u32, c: u32) -> f32 {
    let s = saved_stat[c];
    return ((x1(i) - s.x) - s.y) * s.z;
}

// v of element i, which is in channel c.
fn value(i: u32, c: u32) -> f32 {
    return standard(i, c) * w[c] + b[c];
}
fn act(v: f32) -> f32 {
    switch ACT {
        case 1u: { return max(v, 0.0); }
        case 2u: { return silu(v); }
        case 3u: { return gelu_tanh(v); }
        default: { return v; }
    }
}
// dv of element i.
fn dvalue(i: u32, c: u32) -> f32 {
    switch ACT {
        case 1u: { return select(0.0, dy1(i), value(i, c) > 0.0); }
        case 2u: { return dy1(i) * silu_slope(value(i, c)); }
        case 3u: { return dy1(i) * gelu_tanh_slope(value(i, c)); }
        default: { return dy1(i); }
    }
}

@compute @workgroup_size(WG)
fn normalize(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (grid_row(wid) * WG + tid) << HALF;
    if i >= p.rows * p.c { return; }
    let c = i % p.c;
    if HALF == 1u {
        y[i >> 1u] = pair(vec2(act(value(i, c)), act(value(i + 1u, c + 1u))));
    } else {
        y[i] = bitcast<u32>(act(value(i, c)));
    }
}

@compute @workgroup_size(64)
fn sums(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let lane = grid_row(wid) * 64u + tid;
    let chunk = lane / p.c;
    let c = lane % p.c;
    if chunk >= p.chunks { return; }
    var sum = vec2(0.0);
    for (var row = chunk * p.chunk; row < min((chunk + 1u) * p.chunk, p.rows); row++) {
        let i = row * p.c + c;
        sum += dvalue(i, c) * vec2(standard(i, c), 1.0);
    }
    part[chunk * 2u * p.c + c] = sum.x;
    part[(chunk * 2u + 1u) * p.c + c] = sum.y;
}

var<workgroup> sh_sums: array<vec2<f32>, WG>;
@compute @workgroup_size(WG)
fn gradients(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let c = wid.x * 16u + tid % 16u;
    var sum = vec2(0.0);
    if c < p.c {
        for (var chunk = tid / 16u; chunk < p.chunks; chunk += 16u) {
            let at = chunk * 2u * p.c + c;
            sum += vec2(parts[at], parts[at + p.c]);
        }
    }
    sh_sums[tid] = sum;
    workgroupBarrier();
    if tid >= 16u || c >= p.c { return; }
    for (var i = 1u; i < 16u; i++) { sum += sh_sums[i * 16u + tid]; }
    dw[c] = sum.x;
    db[c] = sum.y;
}

// dx of element i, which is in channel c.
fn gradient(i: u32, c: u32) -> f32 {
    return w[c] * saved_stat[c].z * (dvalue(i, c) - p.share * (sum_b[c] + standard(i, c) * sum_w[c]));
}
@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (grid_row(wid) * WG + tid) << HALF;
    if i >= p.rows * p.c { return; }
    let c = i % p.c;
    if HALF == 1u {
        dx[i >> 1u] = pair(vec2(gradient(i, c), gradient(i + 1u, c + 1u)));
    } else {
        dx[i] = bitcast<u32>(gradient(i, c));
    }
}

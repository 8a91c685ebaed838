// norm — residual add with DropPath, then RMS norm or layer norm over the last dimension, as one operator:
//   RMS norm    F.rms_norm(residual + drop_path(x), (D,), w, eps)         mamba_ssm: rms_norm_fn(prenorm=True)
//   layer norm  F.layer_norm(residual + drop_path(x), (D,), w, b, eps)    mamba_ssm: layer_norm_fn(prenorm=True)
// prenorm=True means that the sum is a result too.
//   shapes    x, residual, sum, y (rows, D)   w, b (D)   drop_path (rows / l): the factor of each sample of l rows
//   forward   sum = residual + drop_path·x. An absent residual counts as 0, an absent drop_path as 1. Without both, sum
//             is x and is not written.
//             y = n·w + b,  n = (sum − mean)·r,  r = 1/√(var + eps). var is biased (÷ D) and computed from sum − mean.
//             An RMS norm has neither mean nor b: n = sum·r,  r = 1/√(mean(sum²) + eps).
//   backward  dresidual = dsum + r·(dn − mean(dn) − n·mean(dn·n)),  dn = dy·w        dx = drop_path·dresidual
//             dw = Σ_rows dy·n        db = Σ_rows dy
//             An RMS norm has no mean(dn). dsum is the gradient of sum from later layers, if any. Without drop_path,
//             dresidual equals dx and is not written. Gradients are overwritten, not accumulated.
//   saves     sum, which the next layer reads anyway, and stat (rows) = (r, drop_path, mean)
//   threads   forward: one workgroup per row. An invocation holds COLS columns in registers, so that a row is read
//             once. backward: `groups` workgroups loop over the rows with stride `groups`, and each sums its share of
//             dw and db in registers. parts.wgsl adds the shares.
//             On a CPU, where a barrier costs more than a row, an invocation takes a whole row (forward_rows,
//             backward_rows) and reads it again instead of holding it. backward_columns sums the shares: an invocation
//             takes a column, and a workgroup the rows with stride `groups`.
//   floor     per element: 8 bytes forward (16 with residual), 12 backward (+4 dsum, +4 drop_path). The shares,
//             4·groups·D bytes for each of dw and db, are written and read once.
//   measured  NVIDIA H200 (benches/runs/2026-11-28-nvidia-h200), base, 98 × 128, when each norm had its own shader:
//             RMS norm forward 0.052 ms, backward 0.080; layer norm forward 0.058, backward 0.081
// MEAN = 1: layer norm, 0: RMS norm. HALF = 1: y and dy are f16, two per word. X16 = 1: x, dx and dsum are f16, and so
// is the sum, which is x, as there is no residual and no drop_path. Where anything is f16, D and COLS are even.
// uses lib/grid, lib/reduce, lib/half
const PAIR = HALF | X16;
struct Params { rows: u32, d: u32, l: u32, residual: u32, dsum: u32, groups: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;           // l = 0: no drop_path; residual, dsum: 1 if bound
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> residual: array<f32>;
@group(0) @binding(3) var<storage, read> drop_path: array<f32>;
@group(0) @binding(4) var<storage, read> w: array<f32>;
@group(0) @binding(5) var<storage, read_write> sum: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<u32>;
@group(0) @binding(7) var<storage, read_write> stat: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> saved_sum: array<u32>;
@group(0) @binding(9) var<storage, read> saved_stat: array<vec4<f32>>;
@group(0) @binding(10) var<storage, read> dy: array<u32>;
@group(0) @binding(11) var<storage, read> dsum: array<u32>;
@group(0) @binding(12) var<storage, read_write> dx: array<u32>;
@group(0) @binding(13) var<storage, read_write> dresidual: array<f32>;
@group(0) @binding(14) var<storage, read_write> share: array<f32>;       // (groups, 1 + MEAN, D): dw, db
@group(0) @binding(17) var<storage, read> b: array<f32>;

// The column that register i holds. Neighboring invocations load neighbors; with PAIR = 1, registers 2j and 2j + 1 hold
// the two numbers of one word of f16.
fn column(i: u32, tid: u32) -> u32 {
    if PAIR == 1u { return (i - i % 2u) * WG + 2u * tid + i % 2u; }
    return i * WG + tid;
}
// Stores v.x as element i of y; with PAIR = 1 also v.y as element i + 1.
fn put_y(i: u32, v: vec2<f32>) {
    if HALF == 1u {
        y[i >> 1u] = pair(v);
        return;
    }
    y[i] = bitcast<u32>(v.x);
    if PAIR == 1u { y[i + 1u] = bitcast<u32>(v.y); }
}

@compute @workgroup_size(WG)
fn forward(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let row = grid_row(wid);
    if row >= p.rows { return; }
    let at = row * p.d;
    var factor = 1.0;
    if p.l > 0u { factor = drop_path[row / p.l]; }
    var v: array<f32, COLS>;
    var total = 0.0;
    var square = 0.0;
    for (var i = 0u; i < COLS; i++) {
        let c = column(i, tid);
        if c < p.d {
            v[i] = factor * element(x[(at + c) >> X16], at + c, X16);
            if p.residual > 0u { v[i] += residual[at + c]; }
            if p.residual + p.l > 0u { sum[at + c] = v[i]; }
            if MEAN == 1u { total += v[i]; } else { square += v[i] * v[i]; }
        }
    }
    var mean = 0.0;
    if MEAN == 1u {
        mean = wg_sum(tid, total) / f32(p.d);
        for (var i = 0u; i < COLS; i++) {
            v[i] -= mean;
            if column(i, tid) < p.d { square += v[i] * v[i]; }
        }
    }
    let r = inverseSqrt(wg_sum(tid, square) / f32(p.d) + p.eps);
    for (var i = 0u; i < COLS; i += 1u + PAIR) {
        let c = column(i, tid);
        if c < p.d {
            let n = vec2(v[i], v[i + PAIR]) * r * vec2(w[c], w[c + PAIR]);
            if MEAN == 1u { put_y(at + c, n + vec2(b[c], b[c + PAIR])); } else { put_y(at + c, n); }
        }
    }
    if tid == 0u { stat[row] = vec4(r, factor, mean, 0.0); }
}

@compute @workgroup_size(WG)
fn backward(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    var n: array<f32, COLS>;
    var dn: array<f32, COLS>;
    var acc_w: array<f32, COLS>;
    var acc_b: array<f32, COLS>;
    for (var row = wid.x; row < p.rows; row += p.groups) {
        let at = row * p.d;
        let s = saved_stat[row];
        var dots = vec2(0.0);                           // sums of dn and of dn·n
        for (var i = 0u; i < COLS; i++) {
            let c = column(i, tid);
            if c < p.d {
                let g = element(dy[(at + c) >> HALF], at + c, HALF);
                let v = element(saved_sum[(at + c) >> X16], at + c, X16);
                if MEAN == 1u { n[i] = (v - s.z) * s.x; } else { n[i] = v * s.x; }
                dn[i] = g * w[c];
                acc_w[i] += g * n[i];
                if MEAN == 1u { acc_b[i] += g; }
                dots += vec2(dn[i], dn[i] * n[i]);
            }
        }
        if MEAN == 1u { dots = wg_sum2(tid, dots); } else { dots = vec2(0.0, wg_sum(tid, dots.y)); }
        dots /= f32(p.d);
        for (var i = 0u; i < COLS; i++) {
            let c = column(i, tid);
            if c < p.d {
                var d = 0.0;
                if MEAN == 1u {
                    d = s.x * (dn[i] - dots.x - n[i] * dots.y);
                } else {
                    d = s.x * (dn[i] - n[i] * dots.y);
                }
                if p.dsum > 0u { d += element(dsum[(at + c) >> X16], at + c, X16); }
                if p.l > 0u {
                    dresidual[at + c] = d;
                    d *= s.y;
                }
                if X16 == 1u { dn[i] = d; } else { dx[at + c] = bitcast<u32>(d); }
            }
        }
        if X16 == 1u {
            for (var i = 0u; i < COLS; i += 1u + X16) {
                let c = column(i, tid);
                if c < p.d { dx[(at + c) >> 1u] = pair(vec2(dn[i], dn[i + X16])); }
            }
        }
    }
    for (var i = 0u; i < COLS; i++) {
        let c = column(i, tid);
        if c < p.d {
            share[wid.x * (1u + MEAN) * p.d + c] = acc_w[i];
            if MEAN == 1u { share[(wid.x * 2u + 1u) * p.d + c] = acc_b[i]; }
        }
    }
}

// Which of four columns from c on are in the row.
fn inside(c: u32) -> vec4<bool> { return vec4(c) + vec4(0u, 1u, 2u, 3u) < vec4(p.d); }
// Four columns of a row of x + residual from c on, or of the sum if it is stored; 0 past the row.
fn sum4(at: u32, c: u32, factor: f32, stored: bool) -> vec4<f32> {
    var v = vec4(0.0);
    for (var k = 0u; k < 4u; k++) {
        if c + k < p.d {
            let i = at + c + k;
            if stored {
                v[k] = sum[i];
            } else {
                v[k] = factor * element(x[i >> X16], i, X16);
                if p.residual > 0u { v[k] += residual[i]; }
            }
        }
    }
    return v;
}

@compute @workgroup_size(WG)
fn forward_rows(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let row = grid_row(wid) * WG + tid;
    if row >= p.rows { return; }
    let at = row * p.d;
    var factor = 1.0;
    if p.l > 0u { factor = drop_path[row / p.l]; }
    let stored = p.residual + p.l > 0u;
    // the mean is counted from the first column, because numbers around a large mean round to few digits in a sum
    let first = sum4(at, 0u, factor, false).x;
    var total = vec4(0.0);
    var square = vec4(0.0);
    for (var c = 0u; c < p.d; c += 4u) {
        let v = sum4(at, c, factor, false);
        if stored {
            for (var k = 0u; k < 4u; k++) {
                if c + k < p.d { sum[at + c + k] = v[k]; }
            }
        }
        if MEAN == 1u { total += select(vec4(0.0), v - first, inside(c)); } else { square += v * v; }
    }
    var mean = 0.0;
    if MEAN == 1u {
        mean = first + dot(total, vec4(1.0)) / f32(p.d);
        for (var c = 0u; c < p.d; c += 4u) {
            let v = select(vec4(0.0), sum4(at, c, factor, stored) - mean, inside(c));
            square += v * v;
        }
    }
    let r = inverseSqrt(dot(square, vec4(1.0)) / f32(p.d) + p.eps);
    for (var c = 0u; c < p.d; c += 4u) {
        let v = (sum4(at, c, factor, stored) - mean) * r;
        for (var k = 0u; k < 4u; k += 1u + PAIR) {
            if c + k < p.d {
                let n = vec2(v[k], v[k + PAIR]) * vec2(w[c + k], w[c + k + PAIR]);
                if MEAN == 1u {
                    put_y(at + c + k, n + vec2(b[c + k], b[c + k + PAIR]));
                } else {
                    put_y(at + c + k, n);
                }
            }
        }
    }
    stat[row] = vec4(r, factor, mean, 0.0);
}

// dn and n of an element.
fn normed(i: u32, c: u32, s: vec4<f32>) -> vec2<f32> {
    let v = element(saved_sum[i >> X16], i, X16);
    var n = v * s.x;
    if MEAN == 1u { n = (v - s.z) * s.x; }
    return vec2(element(dy[i >> HALF], i, HALF) * w[c], n);
}

@compute @workgroup_size(WG)
fn backward_rows(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let row = grid_row(wid) * WG + tid;
    if row >= p.rows { return; }
    let at = row * p.d;
    let s = saved_stat[row];
    var sums = vec4(0.0);                               // of dn, and of dn·n, of columns in turn
    var products = vec4(0.0);
    for (var c = 0u; c < p.d; c += 4u) {
        for (var k = 0u; k < 4u; k++) {
            if c + k < p.d {
                let both = normed(at + c + k, c + k, s);
                sums[k] += both.x;
                products[k] += both.x * both.y;
            }
        }
    }
    var dots = vec2(0.0, dot(products, vec4(1.0))) / f32(p.d);
    if MEAN == 1u { dots.x = dot(sums, vec4(1.0)) / f32(p.d); }
    for (var c = 0u; c < p.d; c += 1u + X16) {
        var two: vec2<f32>;
        for (var k = 0u; k < 1u + X16; k++) {
            let i = at + c + k;
            let both = normed(i, c + k, s);
            two[k] = s.x * (both.x - dots.x - both.y * dots.y);
            if p.dsum > 0u { two[k] += element(dsum[i >> X16], i, X16); }
            if p.l > 0u {
                dresidual[i] = two[k];
                two[k] *= s.y;
            }
        }
        if X16 == 1u { dx[(at + c) >> 1u] = pair(two); } else { dx[at + c] = bitcast<u32>(two.x); }
    }
}

@compute @workgroup_size(WG)
fn backward_columns(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let c = wid.x * WG + tid;
    if c >= p.d { return; }
    var acc_w = 0.0;
    var acc_b = 0.0;
    for (var row = wid.y; row < p.rows; row += p.groups) {
        let i = row * p.d + c;
        let s = saved_stat[row];
        let g = element(dy[i >> HALF], i, HALF);
        acc_w += g * normed(i, c, s).y;
        acc_b += g;
    }
    share[wid.y * (1u + MEAN) * p.d + c] = acc_w;
    if MEAN == 1u { share[(wid.y * 2u + 1u) * p.d + c] = acc_b; }
}

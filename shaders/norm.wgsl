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

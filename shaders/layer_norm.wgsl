// layer_norm — residual add with DropPath, then layer norm: F.layer_norm(residual + drop_path(x), (D,), w, b, eps)
// (mamba_ssm: layer_norm_fn with prenorm=True, which returns the sum too).
//   shapes    x, residual, sum, y (rows, D)   keep (rows / l): the DropPath factor of each sample of l rows   w, b (D)
//   forward   sum = residual + keep·x. An absent residual counts as 0, an absent keep as 1. Without both, sum is x
//             and is not written.
//             y = n·w + b,  n = (sum − mean)·r,  r = 1/√(var + eps). var is biased (÷ D) and computed from sum − mean.
//   backward  dresidual = dsum + r·(dn − mean(dn) − n·mean(dn·n)),  dn = dy·w        dx = keep·dresidual
//             dw = Σ_rows dy·n        db = Σ_rows dy
//             dsum is the gradient of sum from later layers, if any. Without keep, dx is dresidual too, which is not
//             written. Assigns, never adds.
//   saves     sum (the next layer reads it anyway) and stat (rows) = (r, keep, mean)
//   threads   forward: one workgroup per row; an invocation holds COLS columns (lib/norm), so that a row is read once.
//             backward: `groups` workgroups stride over the rows, each with its share of dw and db in registers.
//             sum_partials adds the shares in a fixed order, 16 × 16 invocations per 16 columns.
//   floor     per element: 8 bytes forward (16 with residual), 12 backward (+4 dsum, +4 keep). The shares, 8·groups·D
//             bytes, are written and read once.
//   measured  NVIDIA H200 (benches/runs/2026-11-28-nvidia-h200), base, 98 × 128: forward 0.058 ms, backward 0.081
// HALF = 1: y and dy are f16, half the bytes.   uses lib/grid, lib/reduce, lib/half, lib/norm
struct Params { rows: u32, d: u32, l: u32, residual: u32, dsum: u32, groups: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;           // l = 0: no keep; residual, dsum: 1 if bound
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> residual: array<f32>;
@group(0) @binding(3) var<storage, read> keep: array<f32>;
@group(0) @binding(4) var<storage, read> w: array<f32>;
@group(0) @binding(5) var<storage, read_write> sum: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<u32>;
@group(0) @binding(7) var<storage, read_write> stat: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> saved_sum: array<f32>;
@group(0) @binding(9) var<storage, read> saved_stat: array<vec4<f32>>;
@group(0) @binding(10) var<storage, read> dy: array<u32>;
@group(0) @binding(11) var<storage, read> dsum: array<f32>;
@group(0) @binding(12) var<storage, read_write> dx: array<f32>;
@group(0) @binding(13) var<storage, read_write> dresidual: array<f32>;
@group(0) @binding(14) var<storage, read_write> share: array<f32>;       // (groups, 2, D): dw, db
@group(0) @binding(15) var<storage, read> shares: array<f32>;
@group(0) @binding(16) var<storage, read_write> dw: array<f32>;
@group(0) @binding(17) var<storage, read> b: array<f32>;
@group(0) @binding(18) var<storage, read_write> db: array<f32>;

@compute @workgroup_size(WG)
fn forward(t: Thread, @builtin(workgroup_id) wid: vec3<u32>) {
    let row = grid_row(wid);
    if row >= p.rows { return; }
    let at = row * p.d;
    var factor = 1.0;
    if p.l > 0u { factor = keep[row / p.l]; }
    var v: array<f32, COLS>;
    var total = 0.0;
    for (var i = 0u; i < COLS; i++) {
        let c = column(i, t.tid);
        if c < p.d {
            v[i] = factor * x[at + c];
            if p.residual > 0u { v[i] += residual[at + c]; }
            if p.residual + p.l > 0u { sum[at + c] = v[i]; }
            total += v[i];
        }
    }
    let mean = wg_sum(t, total) / f32(p.d);
    var square = 0.0;
    for (var i = 0u; i < COLS; i++) {
        v[i] -= mean;
        if column(i, t.tid) < p.d { square += v[i] * v[i]; }
    }
    let r = inverseSqrt(wg_sum(t, square) / f32(p.d) + p.eps);
    for (var i = 0u; i < COLS; i += 1u + HALF) {
        let c = column(i, t.tid);
        if c < p.d { put_y(at + c, vec2(v[i], v[i + HALF]) * r * vec2(w[c], w[c + HALF]) + vec2(b[c], b[c + HALF])); }
    }
    if t.tid == 0u { stat[row] = vec4(r, factor, mean, 0.0); }
}

@compute @workgroup_size(WG)
fn backward(t: Thread, @builtin(workgroup_id) wid: vec3<u32>) {
    var n: array<f32, COLS>;
    var dn: array<f32, COLS>;
    var acc_w: array<f32, COLS>;
    var acc_b: array<f32, COLS>;
    for (var row = wid.x; row < p.rows; row += p.groups) {
        let at = row * p.d;
        let s = saved_stat[row];
        var dots = vec2(0.0);
        for (var i = 0u; i < COLS; i++) {
            let c = column(i, t.tid);
            if c < p.d {
                let g = dy_at(at + c);
                n[i] = (saved_sum[at + c] - s.z) * s.x;
                dn[i] = g * w[c];
                acc_w[i] += g * n[i];
                acc_b[i] += g;
                dots += vec2(dn[i], dn[i] * n[i]);
            }
        }
        dots = wg_sum2(t, dots) / f32(p.d);
        for (var i = 0u; i < COLS; i++) {
            let c = column(i, t.tid);
            if c < p.d {
                var d = s.x * (dn[i] - dots.x - n[i] * dots.y);
                if p.dsum > 0u { d += dsum[at + c]; }
                if p.l > 0u {
                    dresidual[at + c] = d;
                    d *= s.y;
                }
                dx[at + c] = d;
            }
        }
    }
    for (var i = 0u; i < COLS; i++) {
        let c = column(i, t.tid);
        if c < p.d {
            share[wid.x * 2u * p.d + c] = acc_w[i];
            share[(wid.x * 2u + 1u) * p.d + c] = acc_b[i];
        }
    }
}

var<workgroup> sh_share: array<f32, 256>;
@compute @workgroup_size(256)
fn sum_partials(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let c = wid.x * 16u + tid % 16u;
    var part = 0.0;
    if c < 2u * p.d {
        for (var i = tid / 16u; i < p.groups; i += 16u) { part += shares[i * 2u * p.d + c]; }
    }
    sh_share[tid] = part;
    workgroupBarrier();
    if tid < 16u && c < 2u * p.d {
        for (var i = 1u; i < 16u; i++) { part += sh_share[i * 16u + tid]; }
        if c < p.d { dw[c] = part; } else { db[c - p.d] = part; }
    }
}

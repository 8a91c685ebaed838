// diffusion — the loss of MAR's diffusion head (ADM's GaussianDiffusion with learned variance: MSE of the noise plus
// the variational bound vb), the noising of its targets, and one step of DDPM sampling (p_sample).
//   shapes    x0 (n, C)   eps, noised (rows, C)   t (rows) u32   loss, dloss (rows)   waves (T, F), time (rows, F)
//             x (n, C)   pred, dpred (rows, ld): ε̂ | v (ld = 2C), or ε̂ alone (ld = C), and then the loss has no vb
//             Row r of eps, noised, t, pred and loss belongs to row r mod n of x0.
//             table (T) = (√ᾱ, √(1−ᾱ), Δ, κ),  Δ = ln β − ln β̃,  κ = β/((1−β)·(1−ᾱ_{t−1}));  row 0: ln β̃ instead of κ
//   add_noise noised = √ᾱ·x0 + √(1−ᾱ)·eps          embed_time  time = waves[t], the cosines and sines of step t
//   forward   loss = scale·mean_c (d² + vb/ln 2),  d = ε̂ − eps. The model's log variance is ln β̃ + a,
//             a = Δ·(v + 1)/2
//     t > 0   vb = ½(a − 1 + e^−a·(1 + κ·d²)), the KL divergence from the posterior; the means differ only through d
//     t = 0   vb = −ln(Φ(high) − Φ(low)), from the likelihood of the pixel's bin, which is at least 1e-12
//             high, low = (√(1−ᾱ)/√ᾱ·d ± 1/255)·e^(−(ln β̃ + a)/2). The bin has no upper end if x0 > 0.999, and no
//             lower end if x0 < −0.999.  Φ(x) = σ(2·√(2/π)·(x + 0.044715·x³))
//   backward  dε̂ = dloss·scale/C·2d     dv = dloss·scale/C·Δ/2/ln 2·dvb/da     (ADM detaches ε̂ in vb, and so do we)
//   denoise   x = s2·x̂0 + s3·x + s6·e^((s4 + s5·(v + 1)/2)/2)·eps, in place;  x̂0 = s0·x + s1·ε̂, clamped to ±s7;
//             v = −1 if pred has no v. step (8) = s0..s7 = 1/√ᾱ, −√(1−ᾱ)/√ᾱ, the two weights of the posterior's mean,
//             ln β̃, Δ, temperature (0 at the last step), bound
//   saves     only its inputs. Backward overwrites dpred; it does not accumulate.
//   threads   forward: one workgroup per row. The others: one invocation per element.
//   floor     per element: 12 bytes forward, 20 backward (with v), 8 add_noise and embed_time
// uses lib/grid, lib/reduce, lib/math
struct Params { rows: u32, n: u32, cols: u32, ld: u32, f: u32, scale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> pred: array<f32>;
@group(0) @binding(2) var<storage, read> x0: array<f32>;
@group(0) @binding(3) var<storage, read> eps: array<f32>;
@group(0) @binding(4) var<storage, read> t: array<u32>;
@group(0) @binding(5) var<storage, read> table: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> loss: array<f32>;
@group(0) @binding(7) var<storage, read> dloss: array<f32>;
@group(0) @binding(8) var<storage, read_write> dpred: array<f32>;
@group(0) @binding(9) var<storage, read_write> noised: array<f32>;
@group(0) @binding(10) var<storage, read> waves: array<f32>;
@group(0) @binding(11) var<storage, read_write> time: array<f32>;
@group(0) @binding(12) var<storage, read> step: array<f32>;
@group(0) @binding(13) var<storage, read_write> x: array<f32>;

const LN_2 = 0.6931471805599453;
const SLOPE = 1.5957691216057308; // 2·√(2/π)

fn cdf(x: f32) -> f32 {
    return sigmoid(SLOPE * (x + 0.044715 * x * x * x));
}
fn pdf(x: f32) -> f32 {
    let c = cdf(x);
    return c * cdf(-x) * SLOPE * (1.0 + 0.134145 * x * x);
}

// (vb, dvb/da) of one element.
fn bound(step: u32, d: f32, v: f32, pixel: f32) -> vec2<f32> {
    let s = table[step];
    let a = s.z * 0.5 * (v + 1.0);
    if step > 0u {
        let e = exp(clamp(-a, -40.0, 40.0)) * (1.0 + s.w * d * d);
        return 0.5 * vec2(a - 1.0 + e, 1.0 - e);
    }
    let rate = exp(clamp(-0.5 * (s.w + a), -40.0, 40.0));
    let off = s.y / s.x * d;
    let high = (off + 1.0 / 255.0) * rate;
    let low = (off - 1.0 / 255.0) * rate;
    // Φ(high) − Φ(low), computed in the tail where both terms are small, so that no digits cancel. At an open end Φ is
    // 1 or 0, and its slope is 0.
    var chance = select(cdf(high) - cdf(low), cdf(-low) - cdf(-high), low + high > 0.0);
    var slope = -0.5 * (high * pdf(high) - low * pdf(low));
    if pixel < -0.999 {
        chance = cdf(high);
        slope = -0.5 * high * pdf(high);
    } else if pixel > 0.999 {
        chance = cdf(-low);
        slope = 0.5 * low * pdf(low);
    }
    if chance < 1e-12 { return vec2(27.631021115928547, 0.0); } // −ln 1e-12
    return vec2(-log(chance), -slope / chance);
}

@compute @workgroup_size(256)
fn add_noise(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    if i >= p.rows * p.cols { return; }
    let s = table[t[i / p.cols]];
    noised[i] = s.x * x0[i % (p.n * p.cols)] + s.y * eps[i];
}

@compute @workgroup_size(256)
fn embed_time(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    if i >= p.rows * p.f { return; }
    time[i] = waves[t[i / p.f] * p.f + i % p.f];
}

@compute @workgroup_size(WG)
fn forward(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let row = grid_row(wid);
    if row >= p.rows { return; }
    let at = t[row];
    var total = 0.0;
    for (var c = tid; c < p.cols; c += WG) {
        let d = pred[row * p.ld + c] - eps[row * p.cols + c];
        total += d * d;
        if p.ld > p.cols {
            total += bound(at, d, pred[row * p.ld + p.cols + c], x0[row % p.n * p.cols + c]).x / LN_2;
        }
    }
    total = wg_sum(tid, total);
    if tid == 0u { loss[row] = p.scale * total / f32(p.cols); }
}

@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    let row = i / p.cols;
    if row >= p.rows { return; }
    let c = i % p.cols;
    let at = row * p.ld + c;
    let d = pred[at] - eps[i];
    let each = dloss[row] * p.scale / f32(p.cols);
    dpred[at] = each * 2.0 * d;
    if p.ld > p.cols {
        let slope = bound(t[row], d, pred[at + p.cols], x0[row % p.n * p.cols + c]).y;
        dpred[at + p.cols] = each * 0.5 * table[t[row]].z / LN_2 * slope;
    }
}

@compute @workgroup_size(256)
fn denoise(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    if i >= p.rows * p.cols { return; }
    let at = i / p.cols * p.ld + i % p.cols;
    var v = -1.0;
    if p.ld > p.cols { v = pred[at + p.cols]; }
    let deviation = step[6] * exp(clamp(0.5 * (step[4] + step[5] * 0.5 * (v + 1.0)), -40.0, 40.0));
    let guess = clamp(step[0] * x[i] + step[1] * pred[at], -step[7], step[7]);
    x[i] = step[2] * guess + step[3] * x[i] + deviation * eps[i];
}

//! The loss of MAR's diffusion head (ADM's GaussianDiffusion with learned variance) and a step of DDPM sampling.
//!
//! ```text
//!   ᾱ(u) = cos²((u + 0.008)/1.008·π/2)   β_i = min(1 − ᾱ((i+1)/T)/ᾱ(i/T), 0.999)   ᾱ_i = Π_{j≤i} (1 − β_j)
//!   ᾱ_{−1} = 1                           x_t = √ᾱ·x0 + √(1−ᾱ)·ε;  row r of ε, t and pred belongs to row r mod n of x0
//!   posterior of x_{t−1}: mean c1·x0 + c2·x_t, c1 = β·√ᾱ_{t−1}/(1−ᾱ_t), c2 = (1−ᾱ_{t−1})·√(1−β)/(1−ᾱ_t)
//!                         variance β̃ = β·(1−ᾱ_{t−1})/(1−ᾱ_t); at t = 0 that of t = 1
//!   model: the same mean with x̂0 = (x_t − √(1−ᾱ)·ε̂)/√ᾱ for x0, log variance f·ln β + (1−f)·ln β̃, f = (v+1)/2
//!   rows[r] = scale·mean_c ((ε − ε̂)² + vb/ln 2)
//!   vb = KL(posterior ‖ model) for t > 0. At t = 0, vb = −ln of the model's probability of the bin x0 ± 1/255. The bin
//!        has no outer end if |x0| > 0.999.
//! pred (rows, 2C), columns ε̂ | v; or (rows, C), ε̂ alone, then without vb. vb gives ε̂ no gradient (as if detached).
//! ```

use std::f64::consts::{LN_2, PI};

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Rows of pred, eps and t; a multiple of `n`.
    pub rows: usize,
    /// Rows of x0.
    pub n: usize,
    /// Columns C of x0.
    pub cols: usize,
    /// Whether pred has the columns v and the loss includes the variational bound vb.
    pub vlb: bool,
}

/// A noise schedule. It stores ᾱ of each step; β and β̃ follow from it.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// ᾱ of each step.
    pub alpha_bar: Vec<f64>,
}

impl Schedule {
    /// iDDPM's cosine schedule of `steps` steps.
    pub fn cosine(steps: usize) -> Self {
        let alpha_bar = |u: f64| ((u + 0.008) / 1.008 * PI / 2.0).cos().powi(2);
        let at = |i: usize| alpha_bar(i as f64 / steps as f64);
        let mut product = 1.0;
        let mut next = |i| {
            product *= 1.0 - (1.0 - at(i + 1) / at(i)).min(0.999);
            product
        };
        Self { alpha_bar: (0..steps).map(&mut next).collect() }
    }

    /// A schedule of only the given steps, in ascending order, for sampling in fewer steps (ADM's `SpacedDiffusion`).
    pub fn strided(&self, steps: &[usize]) -> Self {
        Self { alpha_bar: steps.iter().map(|&i| self.alpha_bar[i]).collect() }
    }

    fn before(&self, i: usize) -> f64 {
        if i == 0 { 1.0 } else { self.alpha_bar[i - 1] }
    }
    fn beta(&self, i: usize) -> f64 {
        1.0 - self.alpha_bar[i] / self.before(i)
    }
    /// ln β̃, the log variance of the posterior.
    fn log_posterior(&self, i: usize) -> f64 {
        let i = i.max(1).min(self.alpha_bar.len() - 1);
        (self.beta(i) * (1.0 - self.before(i)) / (1.0 - self.alpha_bar[i])).ln()
    }
    fn posterior_mean(&self, i: usize, x0: f64, xt: f64) -> f64 {
        let (alpha_bar, before, beta) = (self.alpha_bar[i], self.before(i), self.beta(i));
        (beta * before.sqrt() * x0 + (1.0 - before) * (1.0 - beta).sqrt() * xt) / (1.0 - alpha_bar)
    }
    fn predicted_x0(&self, i: usize, xt: f64, eps: f64) -> f64 {
        (xt - (1.0 - self.alpha_bar[i]).sqrt() * eps) / self.alpha_bar[i].sqrt()
    }
    fn log_variance(&self, i: usize, v: f64) -> f64 {
        let f = (v + 1.0) / 2.0;
        f * self.beta(i).ln() + (1.0 - f) * self.log_posterior(i)
    }
}

/// Returns x_t (rows, C).
pub fn add_noise(dim: Dims, s: &Schedule, x0: &[f64], eps: &[f64], t: &[usize]) -> Vec<f64> {
    let each = |i: usize| {
        let alpha_bar = s.alpha_bar[t[i / dim.cols]];
        alpha_bar.sqrt() * x0[i % (dim.n * dim.cols)] + (1.0 - alpha_bar).sqrt() * eps[i]
    };
    (0..dim.rows * dim.cols).map(each).collect()
}

/// Results of [`forward`], each (rows), without the factor `scale`.
pub struct Out {
    /// mean_c (ε − ε̂)²
    pub mse: Vec<f64>,
    /// mean_c vb/ln 2
    pub vb: Vec<f64>,
}

/// Returns both parts of the loss of each row.
pub fn forward(dim: Dims, s: &Schedule, pred: &[f64], x0: &[f64], eps: &[f64], t: &[usize]) -> Out {
    let xt = add_noise(dim, s, x0, eps, t);
    let mut out = Out { mse: vec![0.0; dim.rows], vb: vec![0.0; dim.rows] };
    for i in 0..dim.rows * dim.cols {
        let (row, (noise, v)) = (i / dim.cols, split(dim, pred, i));
        out.mse[row] += (eps[i] - noise).powi(2) / dim.cols as f64;
        if let Some(v) = v {
            let (x0, xt, t) = (x0[i % (dim.n * dim.cols)], xt[i], t[row]);
            let mean = s.posterior_mean(t, s.predicted_x0(t, xt, noise), xt);
            let lv = s.log_variance(t, v);
            let vb = match t {
                0 => -probability(x0, mean, lv).max(1e-12).ln(),
                _ => kl(s.posterior_mean(t, x0, xt), s.log_posterior(t), mean, lv),
            };
            out.vb[row] += vb / LN_2 / dim.cols as f64;
        }
    }
    out
}

/// Gradient dpred, in the shape of pred, from dloss (rows), the gradient of mse + vb.
pub fn backward(
    dim: Dims, s: &Schedule, pred: &[f64], x0: &[f64], eps: &[f64], t: &[usize], dloss: &[f64],
) -> Vec<f64> {
    let xt = add_noise(dim, s, x0, eps, t);
    let mut dpred = vec![0.0; pred.len()];
    for i in 0..dim.rows * dim.cols {
        let (row, c, (noise, v)) = (i / dim.cols, i % dim.cols, split(dim, pred, i));
        let each = dloss[row] / dim.cols as f64;
        let at = row * (pred.len() / dim.rows) + c;
        dpred[at] = each * 2.0 * (noise - eps[i]);
        if let Some(v) = v {
            let (x0, xt, t) = (x0[i % (dim.n * dim.cols)], xt[i], t[row]);
            let mean = s.posterior_mean(t, s.predicted_x0(t, xt, noise), xt);
            let (lv, low) = (s.log_variance(t, v), s.log_posterior(t));
            let dlv = match t {
                0 => -log_probability_slope(x0, mean, lv),
                _ => {
                    let off = s.posterior_mean(t, x0, xt) - mean;
                    0.5 * (1.0 - (low - lv).exp() - off * off * (-lv).exp())
                }
            };
            dpred[at + dim.cols] = each / LN_2 * dlv * 0.5 * (s.beta(t).ln() - low);
        }
    }
    dpred
}

/// One step of DDPM sampling (p_sample), from step `i` of the schedule to step i − 1. x̂0 is clamped to ±`bound`. `x`
/// and `noise` are (n, C); returns the next x (n, C).
pub fn denoise(dim: Dims, s: &Schedule, pred: &[f64], x: &[f64], noise: &[f64], i: usize, bound: f64) -> Vec<f64> {
    let each = |e: usize| {
        let (eps, v) = split(dim, pred, e);
        let mean = s.posterior_mean(i, s.predicted_x0(i, x[e], eps).clamp(-bound, bound), x[e]);
        let lv = s.log_variance(i, v.unwrap_or(-1.0));
        if i == 0 { mean } else { mean + (0.5 * lv).exp() * noise[e] }
    };
    (0..x.len()).map(each).collect()
}

/// Sinusoidal embedding of t (rows): cosines, then sines of t·10000^(−2j/F), (rows, F).
pub fn embed_time(f: usize, t: &[usize]) -> Vec<f64> {
    let half = f / 2;
    let angle = |t: usize, j: usize| t as f64 * 10_000f64.powf(-(j as f64) / half as f64);
    let row = |&t: &usize| (0..f).map(move |j| if j < half { angle(t, j).cos() } else { angle(t, j - half).sin() });
    t.iter().flat_map(row).collect()
}

/// ε̂ and v of pred that belong to element i of an array (rows, C).
fn split(dim: Dims, pred: &[f64], i: usize) -> (f64, Option<f64>) {
    if !dim.vlb {
        return (pred[i], None);
    }
    let at = i / dim.cols * 2 * dim.cols + i % dim.cols;
    (pred[at], Some(pred[at + dim.cols]))
}

fn kl(mean1: f64, lv1: f64, mean2: f64, lv2: f64) -> f64 {
    0.5 * (lv2 - lv1 - 1.0 + (lv1 - lv2).exp() + (mean1 - mean2).powi(2) * (-lv2).exp())
}

/// ADM's approx_standard_normal_cdf: Φ(x) = ½(1 + tanh(√(2/π)·(x + 0.044715x³))).
fn cdf(x: f64) -> f64 {
    1.0 / (1.0 + (-2.0 * (2.0 / PI).sqrt() * (x + 0.044715 * x * x * x)).exp())
}

fn pdf(x: f64) -> f64 {
    let c = cdf(x);
    c * (1.0 - c) * 2.0 * (2.0 / PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x)
}

/// Lower and upper end of the bin of x0, in standard deviations from the mean. `None` for an end that is open. `lv` is
/// the log variance.
fn bin(x0: f64, mean: f64, lv: f64) -> (Option<f64>, Option<f64>) {
    let at = |edge: f64| (x0 + edge - mean) * (-0.5 * lv).exp();
    ((x0 >= -0.999).then(|| at(-1.0 / 255.0)), (x0 <= 0.999).then(|| at(1.0 / 255.0)))
}

fn probability(x0: f64, mean: f64, lv: f64) -> f64 {
    match bin(x0, mean, lv) {
        (Some(low), Some(high)) => between(low, high),
        (Some(low), None) => cdf(-low),
        (None, Some(high)) => cdf(high),
        (None, None) => 1.0,
    }
}

/// Φ(high) − Φ(low). It is computed in the tail where both terms are small, so that no digits cancel.
fn between(low: f64, high: f64) -> f64 {
    if low + high > 0.0 { cdf(-low) - cdf(-high) } else { cdf(high) - cdf(low) }
}

/// Derivative of ln probability with respect to lv. 0 if the probability is clamped to 1e-12.
fn log_probability_slope(x0: f64, mean: f64, lv: f64) -> f64 {
    let p = probability(x0, mean, lv);
    if p < 1e-12 {
        return 0.0;
    }
    let part = |edge: Option<f64>| edge.map_or(0.0, |x| pdf(x) * -0.5 * x);
    let (low, high) = bin(x0, mean, lv);
    (part(high) - part(low)) / p
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, close, dot, random};
    use super::*;

    #[test]
    fn the_cosine_schedule_falls_from_one_to_nothing() {
        let s = Schedule::cosine(1000);
        assert!((s.alpha_bar[0] - 0.999_958_7).abs() < 1e-6, "{}", s.alpha_bar[0]);
        // Where β is not clipped to 0.999, the product telescopes to ᾱ(u)/ᾱ(0).
        let exact =
            |u: f64| ((u + 0.008) / 1.008 * PI / 2.0).cos().powi(2) / (0.008f64 / 1.008 * PI / 2.0).cos().powi(2);
        for i in [0, 1, 10, 499, 900, 997] {
            close("alpha_bar", &[s.alpha_bar[i]], &[exact((i as f64 + 1.0) / 1000.0)], 1e-12);
        }
        assert!((s.beta(999) - 0.999).abs() < 1e-12 && s.alpha_bar[999] < 1e-8);
    }

    /// The exact ε̂ with the posterior's variance (v = −1) has a loss of 0 for t > 0.
    #[test]
    fn perfect_prediction() {
        let s = Schedule::cosine(1000);
        let dim = Dims { rows: 3, n: 3, cols: 1, vlb: true };
        let eps = [0.3, -1.0, 2.0];
        let pred: Vec<f64> = eps.iter().flat_map(|&e| [e, -1.0]).collect();
        let out = forward(dim, &s, &pred, &[0.1, 0.2, -0.5], &eps, &[1, 500, 999]);
        close("mse", &out.mse, &[0.0; 3], 1e-15);
        close("vb", &out.vb, &[0.0; 3], 1e-12);
    }

    #[test]
    fn gradients() {
        let s = Schedule::cosine(20);
        for (repeats, n, cols, vlb) in [(1, 1, 1, true), (2, 4, 3, true), (3, 2, 2, false)] {
            let rows = repeats * n;
            let dim = Dims { rows, n, cols, vlb };
            let pred = random(1, rows * cols * if vlb { 2 } else { 1 });
            let x0: Vec<f64> = random(2, n * cols).iter().map(|x| 2.0 * x).collect(); // with open bins
            let (eps, dloss) = (random(3, rows * cols), random(4, rows));
            let t: Vec<usize> = (0..rows).map(|r| [0, 7, 19, 1, 0][r % 5]).collect();
            let dpred = backward(dim, &s, &pred, &x0, &eps, &t, &dloss);
            // vb gives ε̂ no gradient, so ε̂ is checked against mse alone, and v against vb
            let only = |x: &[f64], v: bool| -> Vec<f64> {
                let half = |i: usize| vlb && i % (2 * cols) >= cols;
                x.iter().enumerate().filter(|(i, _)| half(*i) == v).map(|(_, x)| *x).collect()
            };
            let join = |noise: &[f64], v: &[f64]| -> Vec<f64> {
                let v = v.chunks(cols).map(Some).chain(std::iter::repeat(None));
                noise.chunks(cols).zip(v).flat_map(|(n, v)| [n, v.unwrap_or(&[])].concat()).collect()
            };
            let (noise, v) = (only(&pred, false), only(&pred, true));
            check("dnoise", &noise, &only(&dpred, false), |x| {
                dot(&forward(dim, &s, &join(x, &v), &x0, &eps, &t).mse, &dloss)
            });
            check("dv", &v, &only(&dpred, true), |x| {
                dot(&forward(dim, &s, &join(&noise, x), &x0, &eps, &t).vb, &dloss)
            });
        }
    }

    /// With the true noise as ε̂, the last step of sampling must return x0.
    #[test]
    fn the_last_step_of_sampling_is_x0() {
        let s = Schedule::cosine(1000).strided(&[0, 250, 999]);
        let dim = Dims { rows: 2, n: 2, cols: 1, vlb: false };
        let (x0, eps) = ([0.7, -2.0], [1.0, -0.5]);
        let xt = add_noise(dim, &s, &x0, &eps, &[0, 0]);
        close("x0", &denoise(dim, &s, &eps, &xt, &[5.0, 5.0], 0, 9.0), &x0, 1e-12);
        close("bounded", &denoise(dim, &s, &eps, &xt, &[5.0, 5.0], 0, 0.5), &[0.5, -0.5], 1e-12);
    }

    #[test]
    fn times_are_cosines_then_sines() {
        let rows = embed_time(4, &[0, 3]);
        close("time", &rows, &[1.0, 1.0, 0.0, 0.0, 3f64.cos(), 0.03f64.cos(), 3f64.sin(), 0.03f64.sin()], 1e-12);
    }
}

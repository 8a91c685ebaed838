//! Residual add with DropPath, then layer norm, as one operator (mamba_ssm's `layer_norm_fn(.., prenorm=True)`).
//!
//! ```text
//!   x, residual, sum, y (rows, D)   keep (rows / L), the DropPath factor of each sample   w, bias (D)
//!   sum = residual + keep·x    (an absent residual is 0, an absent keep 1)
//!   y   = n·w + bias,  n = (sum - mean)·r,  r = 1/√(var + eps), var biased (÷ D)
//!   backward, with dn = dy·w:
//!     dresidual = dsum + r·(dn - mean(dn) - n·mean(dn·n))    dx = keep·dresidual
//!     dw = Σ_rows dy·n    dbias = Σ_rows dy
//! ```
use super::rms_norm::add;
pub use super::rms_norm::{Dims, Out};

/// Gradients of [`forward`].
pub struct Grads {
    /// (rows, D)
    pub dx: Vec<f64>,
    /// (rows, D)
    pub dresidual: Vec<f64>,
    /// (D)
    pub dw: Vec<f64>,
    /// (D)
    pub dbias: Vec<f64>,
}

/// Returns y and sum.
pub fn forward(
    dim: Dims, x: &[f64], residual: Option<&[f64]>, keep: Option<&[f64]>, w: &[f64], bias: &[f64], eps: f64,
) -> Out {
    let sum = add(dim, x, residual, keep);
    let mut y = Vec::with_capacity(sum.len());
    for v in sum.chunks(dim.d) {
        let (mean, r) = stats(v, eps);
        y.extend((0..dim.d).map(|c| (v[c] - mean) * r * w[c] + bias[c]));
    }
    Out { y, sum }
}

/// Gradients from dy and dsum, the gradient of sum from later layers; `sum` is the one that [`forward`] returned.
pub fn backward(
    dim: Dims, sum: &[f64], keep: Option<&[f64]>, w: &[f64], eps: f64, dy: &[f64], dsum: Option<&[f64]>,
) -> Grads {
    let mut g = Grads { dx: vec![], dresidual: vec![0.0; sum.len()], dw: vec![0.0; dim.d], dbias: vec![0.0; dim.d] };
    for row in 0..dim.rows {
        let at = row * dim.d;
        let (mean, r) = stats(&sum[at..at + dim.d], eps);
        let (n, dn) = (|c: usize| (sum[at + c] - mean) * r, |c: usize| dy[at + c] * w[c]);
        let avg = (0..dim.d).map(dn).sum::<f64>() / dim.d as f64;
        let dot = (0..dim.d).map(|c| dn(c) * n(c)).sum::<f64>() / dim.d as f64;
        for c in 0..dim.d {
            g.dresidual[at + c] = dsum.map_or(0.0, |dsum| dsum[at + c]) + r * (dn(c) - avg - n(c) * dot);
            g.dw[c] += dy[at + c] * n(c);
            g.dbias[c] += dy[at + c];
        }
    }
    g.dx = add(dim, &g.dresidual, None, keep);
    g
}

/// Mean and r = 1/√(var + eps) of one row.
fn stats(v: &[f64], eps: f64) -> (f64, f64) {
    let mean = v.iter().sum::<f64>() / v.len() as f64;
    let var = v.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / v.len() as f64;
    (mean, 1.0 / (var + eps).sqrt())
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, close, dot, random};
    use super::*;

    #[test]
    fn by_hand() {
        let dim = Dims { rows: 1, l: 1, d: 2 };
        let out = forward(dim, &[4.0, 8.0], Some(&[1.0, 1.0]), Some(&[0.5]), &[1.0, 2.0], &[0.0, 7.0], 0.0);
        assert_eq!(out.sum, [3.0, 5.0]);
        close("y", &out.y, &[-1.0, 9.0], 1e-15);
    }

    #[test]
    fn keep_is_per_sample() {
        let dim = Dims { rows: 4, l: 2, d: 1 };
        let out = forward(dim, &[1.0; 4], Some(&[5.0; 4]), Some(&[0.0, 2.0]), &[1.0], &[0.0], 1e-5);
        assert_eq!(out.sum, [5.0, 5.0, 7.0, 7.0]);
    }

    #[test]
    fn gradients() {
        for (b, l, d, fused) in [(1, 1, 1, true), (2, 3, 7, true), (3, 1, 5, false)] {
            let dim = Dims { rows: b * l, l, d };
            let (x, residual) = (random(1, b * l * d), random(2, b * l * d));
            let (w, bias, keep) = (random(3, d), random(6, d), [1.5, 0.0, 1.25]);
            let (dy, dsum) = (random(4, b * l * d), random(5, b * l * d));
            let keep = fused.then_some(&keep[3 - b..]);
            let loss = |x: &[f64], r: &[f64], w: &[f64], bias: &[f64]| {
                let out = forward(dim, x, fused.then_some(r), keep, w, bias, 1e-5);
                dot(&out.y, &dy) + if fused { dot(&out.sum, &dsum) } else { 0.0 }
            };
            let sum = forward(dim, &x, fused.then_some(&residual), keep, &w, &bias, 1e-5).sum;
            let g = backward(dim, &sum, keep, &w, 1e-5, &dy, fused.then_some(&dsum));
            check("dx", &x, &g.dx, |x| loss(x, &residual, &w, &bias));
            check("dw", &w, &g.dw, |w| loss(&x, &residual, w, &bias));
            check("dbias", &bias, &g.dbias, |bias| loss(&x, &residual, &w, bias));
            if fused {
                check("dresidual", &residual, &g.dresidual, |r| loss(&x, r, &w, &bias));
            }
        }
    }
}

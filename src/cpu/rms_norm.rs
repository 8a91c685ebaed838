//! Residual add with DropPath, then RMS norm, as one operator (mamba_ssm's `rms_norm_fn(.., prenorm=True)`).
//!
//! ```text
//!   x, residual, sum, y (rows, D)   keep (rows / L), the DropPath factor of each sample   w (D)
//!   sum = residual + keep·x    (an absent residual is 0, an absent keep 1)
//!   y   = sum·r·w,  r = 1/√(mean(sum²) + eps)
//!   backward, with n = sum·r and dn = dy·w:
//!     dresidual = dsum + r·(dn - n·mean(dn·n))    dx = keep·dresidual    dw = Σ_rows dy·n
//! ```

/// Sizes of a batch of token rows.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Token rows, B·L.
    pub rows: usize,
    /// Rows L of one sample: row i belongs to sample i / l.
    pub l: usize,
    /// Width D of a row.
    pub d: usize,
}

/// Results of [`forward`].
pub struct Out {
    /// (rows, D)
    pub y: Vec<f64>,
    /// (rows, D), the new residual
    pub sum: Vec<f64>,
}

/// Gradients of [`forward`].
pub struct Grads {
    /// (rows, D)
    pub dx: Vec<f64>,
    /// (rows, D)
    pub dresidual: Vec<f64>,
    /// (D)
    pub dw: Vec<f64>,
}

/// Returns y and sum.
pub fn forward(dim: Dims, x: &[f64], residual: Option<&[f64]>, keep: Option<&[f64]>, w: &[f64], eps: f64) -> Out {
    let sum = add(dim, x, residual, keep);
    let mut y = Vec::with_capacity(sum.len());
    for v in sum.chunks(dim.d) {
        let r = rstd(v, eps);
        y.extend(v.iter().zip(w).map(|(v, w)| v * r * w));
    }
    Out { y, sum }
}

/// Gradients from dy and dsum, the gradient of sum from later layers; `sum` is the one that [`forward`] returned.
pub fn backward(
    dim: Dims, sum: &[f64], keep: Option<&[f64]>, w: &[f64], eps: f64, dy: &[f64], dsum: Option<&[f64]>,
) -> Grads {
    let mut g = Grads { dx: vec![], dresidual: vec![0.0; sum.len()], dw: vec![0.0; dim.d] };
    for row in 0..dim.rows {
        let at = row * dim.d;
        let r = rstd(&sum[at..at + dim.d], eps);
        let (n, dn) = (|c: usize| sum[at + c] * r, |c: usize| dy[at + c] * w[c]);
        let dot = (0..dim.d).map(|c| dn(c) * n(c)).sum::<f64>() / dim.d as f64;
        for c in 0..dim.d {
            g.dresidual[at + c] = dsum.map_or(0.0, |dsum| dsum[at + c]) + r * (dn(c) - n(c) * dot);
            g.dw[c] += dy[at + c] * n(c);
        }
    }
    g.dx = add(dim, &g.dresidual, None, keep);
    g
}

/// Returns residual + keep·x; layer_norm uses it too.
pub(super) fn add(dim: Dims, x: &[f64], residual: Option<&[f64]>, keep: Option<&[f64]>) -> Vec<f64> {
    let keep = |i: usize| keep.map_or(1.0, |keep| keep[i / dim.d / dim.l]);
    (0..dim.rows * dim.d).map(|i| residual.map_or(0.0, |r| r[i]) + keep(i) * x[i]).collect()
}

fn rstd(v: &[f64], eps: f64) -> f64 {
    1.0 / (v.iter().map(|v| v * v).sum::<f64>() / v.len() as f64 + eps).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, close, dot, random};
    use super::*;

    #[test]
    fn by_hand() {
        let dim = Dims { rows: 1, l: 1, d: 2 };
        let out = forward(dim, &[4.0, 6.0], Some(&[1.0, 1.0]), Some(&[0.5]), &[1.0, 2.0], 0.0);
        assert_eq!(out.sum, [3.0, 4.0]);
        close("y", &out.y, &[3.0 / 12.5f64.sqrt(), 8.0 / 12.5f64.sqrt()], 1e-15);
    }

    #[test]
    fn keep_is_per_sample() {
        let dim = Dims { rows: 4, l: 2, d: 1 };
        let out = forward(dim, &[1.0; 4], Some(&[5.0; 4]), Some(&[0.0, 2.0]), &[1.0], 1e-5);
        assert_eq!(out.sum, [5.0, 5.0, 7.0, 7.0]);
    }

    #[test]
    fn gradients() {
        for (b, l, d, fused) in [(1, 1, 1, true), (2, 3, 7, true), (3, 1, 5, false)] {
            let dim = Dims { rows: b * l, l, d };
            let (x, residual, w) = (random(1, b * l * d), random(2, b * l * d), random(3, d));
            let (dy, dsum, keep) = (random(4, b * l * d), random(5, b * l * d), [1.5, 0.0, 1.25]);
            let keep = fused.then_some(&keep[3 - b..]);
            let loss = |x: &[f64], r: &[f64], w: &[f64]| {
                let out = forward(dim, x, fused.then_some(r), keep, w, 1e-5);
                dot(&out.y, &dy) + if fused { dot(&out.sum, &dsum) } else { 0.0 }
            };
            let sum = forward(dim, &x, fused.then_some(&residual), keep, &w, 1e-5).sum;
            let g = backward(dim, &sum, keep, &w, 1e-5, &dy, fused.then_some(&dsum));
            check("dx", &x, &g.dx, |x| loss(x, &residual, &w));
            check("dw", &w, &g.dw, |w| loss(&x, &residual, w));
            if fused {
                check("dresidual", &residual, &g.dresidual, |r| loss(&x, r, &w));
            }
        }
    }
}

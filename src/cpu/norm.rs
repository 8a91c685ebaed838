//! Residual add with DropPath, then RMS norm or layer norm, as one operator (mamba_ssm's `rms_norm_fn` and
//! `layer_norm_fn` with `prenorm=True`).
//!
//! ```text
//!   x, residual, sum, y (rows, D)   drop_path (rows / L), the DropPath factor of each sample   w, b (D)
//!   sum = residual + drop_path·x    (an absent residual counts as 0, an absent drop_path as 1)
//!   y   = n·w + b,  n = (sum - mean)·r,  r = 1/√(var + eps), var biased (÷ D)
//!   backward, with dn = dy·w:
//!     dresidual = dsum + r·(dn - mean(dn) - n·mean(dn·n))    dx = drop_path·dresidual
//!     dw = Σ_rows dy·n    db = Σ_rows dy
//!   An RMS norm has no b, and neither mean nor mean(dn): n = sum·r,  r = 1/√(mean(sum²) + eps)
//! ```

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Rows, B·L: one per token.
    pub rows: usize,
    /// Rows L of a sample: row i belongs to sample i / L.
    pub l: usize,
    /// Width D of a row.
    pub d: usize,
}

/// The weights. Whether there is a bias decides the kind of norm.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// (D)
    pub w: &'a [f64],
    /// (D) for a layer norm, `None` for an RMS norm.
    pub b: Option<&'a [f64]>,
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
    /// (D)
    pub db: Vec<f64>,
}

/// Returns y and sum.
pub fn forward(
    dim: Dims, x: &[f64], residual: Option<&[f64]>, drop_path: Option<&[f64]>, weights: Weights<'_>, eps: f64,
) -> Out {
    let sum = add(dim, x, residual, drop_path);
    let mut y = Vec::with_capacity(sum.len());
    for v in sum.chunks(dim.d) {
        let (mean, r) = statistics(v, weights, eps);
        y.extend((0..dim.d).map(|c| (v[c] - mean) * r * weights.w[c] + weights.b.map_or(0.0, |b| b[c])));
    }
    Out { y, sum }
}

/// Gradients from dy and dsum, the gradient of sum from later layers; `sum` is the one that [`forward`] returned.
pub fn backward(
    dim: Dims, sum: &[f64], drop_path: Option<&[f64]>, weights: Weights<'_>, eps: f64, dy: &[f64], dsum: Option<&[f64]>,
) -> Grads {
    let mut g = Grads { dx: vec![], dresidual: vec![0.0; sum.len()], dw: vec![0.0; dim.d], db: vec![0.0; dim.d] };
    for row in 0..dim.rows {
        let at = row * dim.d;
        let (mean, r) = statistics(&sum[at..at + dim.d], weights, eps);
        let (n, dn) = (|c: usize| (sum[at + c] - mean) * r, |c: usize| dy[at + c] * weights.w[c]);
        let average = |of: &dyn Fn(usize) -> f64| (0..dim.d).map(of).sum::<f64>() / dim.d as f64;
        let shift = if weights.b.is_some() { average(&dn) } else { 0.0 };
        let dot = average(&|c| dn(c) * n(c));
        for c in 0..dim.d {
            g.dresidual[at + c] = dsum.map_or(0.0, |dsum| dsum[at + c]) + r * (dn(c) - shift - n(c) * dot);
            g.dw[c] += dy[at + c] * n(c);
            g.db[c] += dy[at + c];
        }
    }
    g.dx = add(dim, &g.dresidual, None, drop_path);
    g
}

/// residual + drop_path·x
fn add(dim: Dims, x: &[f64], residual: Option<&[f64]>, drop_path: Option<&[f64]>) -> Vec<f64> {
    let drop_path = |i: usize| drop_path.map_or(1.0, |drop_path| drop_path[i / dim.d / dim.l]);
    (0..dim.rows * dim.d).map(|i| residual.map_or(0.0, |r| r[i]) + drop_path(i) * x[i]).collect()
}

/// Mean and r of a row. The mean of an RMS norm is 0.
fn statistics(v: &[f64], weights: Weights<'_>, eps: f64) -> (f64, f64) {
    let mean = if weights.b.is_some() { v.iter().sum::<f64>() / v.len() as f64 } else { 0.0 };
    let square = v.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / v.len() as f64;
    (mean, 1.0 / (square + eps).sqrt())
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, close, dot, random};
    use super::*;

    #[test]
    fn by_hand() {
        let dim = Dims { rows: 1, l: 1, d: 2 };
        let (residual, drop_path, w) = ([1.0, 1.0], [0.5], [1.0, 2.0]);
        let out = forward(dim, &[4.0, 6.0], Some(&residual), Some(&drop_path), Weights { w: &w, b: None }, 0.0);
        assert_eq!(out.sum, [3.0, 4.0]);
        close("y of an RMS norm", &out.y, &[3.0 / 12.5f64.sqrt(), 8.0 / 12.5f64.sqrt()], 1e-15);
        let weights = Weights { w: &w, b: Some(&[0.0, 7.0]) };
        let out = forward(dim, &[4.0, 8.0], Some(&residual), Some(&drop_path), weights, 0.0);
        assert_eq!(out.sum, [3.0, 5.0]);
        close("y of a layer norm", &out.y, &[-1.0, 9.0], 1e-15);
    }

    #[test]
    fn keep_is_per_sample() {
        let dim = Dims { rows: 4, l: 2, d: 1 };
        for b in [None, Some(&[0.0][..])] {
            let weights = Weights { w: &[1.0], b };
            let out = forward(dim, &[1.0; 4], Some(&[5.0; 4]), Some(&[0.0, 2.0]), weights, 1e-5);
            assert_eq!(out.sum, [5.0, 5.0, 7.0, 7.0]);
        }
    }

    #[test]
    fn gradients() {
        for (b, l, d, fused) in [(1, 1, 1, true), (2, 3, 7, true), (3, 1, 5, false)] {
            let dim = Dims { rows: b * l, l, d };
            let (x, residual) = (random(1, b * l * d), random(2, b * l * d));
            let (w, bias, drop_path) = (random(3, d), random(6, d), [1.5, 0.0, 1.25]);
            let (dy, dsum) = (random(4, b * l * d), random(5, b * l * d));
            let drop_path = fused.then_some(&drop_path[3 - b..]);
            for layer in [false, true] {
                let of = |x: &[f64], r: &[f64], w: &[f64], bias: &[f64]| {
                    forward(dim, x, fused.then_some(r), drop_path, Weights { w, b: layer.then_some(bias) }, 1e-5)
                };
                let loss = |x: &[f64], r: &[f64], w: &[f64], bias: &[f64]| {
                    let out = of(x, r, w, bias);
                    dot(&out.y, &dy) + if fused { dot(&out.sum, &dsum) } else { 0.0 }
                };
                let sum = of(&x, &residual, &w, &bias).sum;
                let weights = Weights { w: &w, b: layer.then_some(&bias) };
                let g = backward(dim, &sum, drop_path, weights, 1e-5, &dy, fused.then_some(&dsum));
                check("dx", &x, &g.dx, |x| loss(x, &residual, &w, &bias));
                check("dw", &w, &g.dw, |w| loss(&x, &residual, w, &bias));
                if layer {
                    check("db", &bias, &g.db, |bias| loss(&x, &residual, &w, bias));
                }
                if fused {
                    check("dresidual", &residual, &g.dresidual, |r| loss(&x, r, &w, &bias));
                }
            }
        }
    }
}

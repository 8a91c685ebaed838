//! A batch of S linear layers (`F.linear`): `y[s,m,n] = Σ_k x[s,m,k]·w[s,n,k] (+ bias[s,n]) (+ residual[s,m,n])`.
//!
//! ```text
//!   x (S, M, K)   w (S, N, K)   bias (S, N)   residual, y (S, M, N)
//!   dx = dy·w    dw = dyᵀ·x    dbias = Σ_m dy    dresidual = dy
//! ```

/// Sizes: `s` batches of an (M, K) by (N, K)ᵀ product.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Batches, each with its own weight.
    pub s: usize,
    /// Rows of x and y.
    pub m: usize,
    /// Columns of y, rows of w.
    pub n: usize,
    /// Columns of x and w, summed over.
    pub k: usize,
}

/// Gradients of [`forward`]; the gradient of the residual is dy itself.
pub struct Grads {
    /// (S, M, K)
    pub dx: Vec<f64>,
    /// (S, N, K)
    pub dw: Vec<f64>,
    /// (S, N)
    pub dbias: Vec<f64>,
}

/// Returns y (S, M, N).
pub fn forward(dim: Dims, x: &[f64], w: &[f64], bias: Option<&[f64]>, residual: Option<&[f64]>) -> Vec<f64> {
    let mut y = residual.map_or_else(|| vec![0.0; dim.s * dim.m * dim.n], <[f64]>::to_vec);
    for s in 0..dim.s {
        for m in 0..dim.m {
            for n in 0..dim.n {
                let (xi, wi) = ((s * dim.m + m) * dim.k, (s * dim.n + n) * dim.k);
                let sum: f64 = (0..dim.k).map(|k| x[xi + k] * w[wi + k]).sum();
                y[(s * dim.m + m) * dim.n + n] += sum + bias.map_or(0.0, |bias| bias[s * dim.n + n]);
            }
        }
    }
    y
}

/// Gradients of x, w and bias from dy (S, M, N).
pub fn backward(dim: Dims, x: &[f64], w: &[f64], dy: &[f64]) -> Grads {
    let mut g = Grads { dx: vec![0.0; x.len()], dw: vec![0.0; w.len()], dbias: vec![0.0; dim.s * dim.n] };
    for s in 0..dim.s {
        for m in 0..dim.m {
            for n in 0..dim.n {
                let (xi, wi) = ((s * dim.m + m) * dim.k, (s * dim.n + n) * dim.k);
                let dy = dy[(s * dim.m + m) * dim.n + n];
                for k in 0..dim.k {
                    g.dx[xi + k] += dy * w[wi + k];
                    g.dw[wi + k] += dy * x[xi + k];
                }
                g.dbias[s * dim.n + n] += dy;
            }
        }
    }
    g
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn two_by_two() {
        let dim = Dims { s: 1, m: 2, n: 2, k: 2 };
        let y = forward(dim, &[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], Some(&[0.5, 0.0]), Some(&[1.0; 4]));
        assert_eq!(y, [18.5, 24.0, 40.5, 54.0]);
    }

    #[test]
    fn gradients() {
        for (s, m, n, k) in [(1, 1, 1, 1), (2, 5, 3, 7), (3, 2, 7, 1)] {
            let dim = Dims { s, m, n, k };
            let (x, w, bias) = (random(1, s * m * k), random(2, s * n * k), random(3, s * n));
            let (residual, dy) = (random(4, s * m * n), random(5, s * m * n));
            let loss =
                |x: &[f64], w: &[f64], bias: &[f64], r: &[f64]| dot(&forward(dim, x, w, Some(bias), Some(r)), &dy);
            let g = backward(dim, &x, &w, &dy);
            check("dx", &x, &g.dx, |x| loss(x, &w, &bias, &residual));
            check("dw", &w, &g.dw, |w| loss(&x, w, &bias, &residual));
            check("dbias", &bias, &g.dbias, |bias| loss(&x, &w, bias, &residual));
            check("dresidual", &residual, &dy, |r| loss(&x, &w, &bias, r));
        }
    }
}

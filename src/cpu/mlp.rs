//! Two linear layers with an activation between (timm's Mlp): `y = act(x·w₁ᵀ + b₁)·w₂ᵀ + b₂ (+ residual)`.
//!
//! ```text
//!   x (M, K)   w₁ (H, K)   b₁ (H)   w₂ (N, H)   b₂ (N)   residual, y (M, N)
//!   with v = x·w₁ᵀ + b₁ and h = act(v):   dw₂ = dyᵀ·h   db₂ = Σ_m dy   dv = (dy·w₂)·act'(v)
//!   dw₁ = dvᵀ·x   db₁ = Σ_m dv   dx = dv·w₁   dresidual = dy
//! ```
use super::activation;
use super::activation::Activation;
use super::matmul;

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Rows M of x and y.
    pub m: usize,
    /// Columns K of x.
    pub k: usize,
    /// Hidden width H, between the layers.
    pub h: usize,
    /// Columns N of y.
    pub n: usize,
}

impl Dims {
    fn first(self) -> matmul::Dims {
        matmul::Dims { s: 1, m: self.m, n: self.h, k: self.k }
    }
    fn second(self) -> matmul::Dims {
        matmul::Dims { s: 1, m: self.m, n: self.n, k: self.h }
    }
}

/// Weight and bias of a layer.
pub type Layer<'a> = (&'a [f64], Option<&'a [f64]>);

/// Returns y (M, N).
pub fn forward(
    dim: Dims, act: Activation, x: &[f64], first: Layer, second: Layer, residual: Option<&[f64]>,
) -> Vec<f64> {
    let v = matmul::forward(dim.first(), x, first.0, first.1, None);
    matmul::forward(dim.second(), &activation::forward(act, &v), second.0, second.1, residual)
}

/// Gradients of the first layer, whose `dx` is that of x, and of the second layer. The gradient of the residual is dy.
pub fn backward(
    dim: Dims, act: Activation, x: &[f64], first: Layer, second: Layer, dy: &[f64],
) -> (matmul::Grads, matmul::Grads) {
    let v = matmul::forward(dim.first(), x, first.0, first.1, None);
    let last = matmul::backward(dim.second(), &activation::forward(act, &v), second.0, dy);
    let dv = activation::backward(act, &v, &last.dx);
    (matmul::backward(dim.first(), x, first.0, &dv), last)
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn gradients() {
        for act in [Activation::Gelu, Activation::Silu] {
            let dim = Dims { m: 3, k: 4, h: 5, n: 2 };
            let (x, w1, b1) = (random(1, 12), random(2, 20), random(3, 5));
            let (w2, b2, dy) = (random(4, 10), random(5, 2), random(6, 6));
            let loss = |x: &[f64], w1: &[f64], b1: &[f64], w2: &[f64], b2: &[f64]| {
                dot(&forward(dim, act, x, (w1, Some(b1)), (w2, Some(b2)), Some(&dy)), &dy)
            };
            let (first, second) = backward(dim, act, &x, (&w1, Some(&b1)), (&w2, Some(&b2)), &dy);
            check("dx", &x, &first.dx, |x| loss(x, &w1, &b1, &w2, &b2));
            check("dw1", &w1, &first.dw, |w1| loss(&x, w1, &b1, &w2, &b2));
            check("db1", &b1, &first.dbias, |b1| loss(&x, &w1, b1, &w2, &b2));
            check("dw2", &w2, &second.dw, |w2| loss(&x, &w1, &b1, w2, &b2));
            check("db2", &b2, &second.dbias, |b2| loss(&x, &w1, &b1, &w2, b2));
        }
    }
}

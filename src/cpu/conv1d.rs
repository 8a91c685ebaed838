//! Causal depthwise convolution + SiLU, in S directions over one sequence (`causal_conv1d_fn(.., activation="silu")`).
//!
//! ```text
//!   x (B, L, ldx), of which columns 0..E are read   w (S, E, K)   bias (S, E)   u (S, B, L, E)
//!   c[t] = bias + Σ_k w[k]·x[τ],  u = SiLU(c);  terms with τ outside 0..L are 0
//!     s = 0, forward in the image:   τ = t - (K-1) + k
//!     s = 1, the flipped sequence:   τ = t + (K-1) - k     (t stays the image position)
//!     same, with S = 1:              τ = t - ⌊(K-1)/2⌋ + k
//!   backward:  dc = du·SiLU'(c)    dbias = Σ_bt dc    dw[k] = Σ_bt dc·x[τ]    dx[τ] = Σ_s Σ_k w[k]·dc[t]
//! ```
use super::activation::{dsilu, silu};

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Directions S, 1 or 2.
    pub s: usize,
    /// Samples B.
    pub b: usize,
    /// Tokens L.
    pub l: usize,
    /// Channels E.
    pub e: usize,
    /// Taps K of the kernel.
    pub k: usize,
    /// Row stride of x, at least e: 2·e when x is the left half of x|z.
    pub ldx: usize,
    /// Whether the taps lie around the token: PyTorch's `padding="same"`.
    pub same: bool,
}

/// Gradients of [`forward`].
pub struct Grads {
    /// (B, L, E), summed over directions. Rows are dense: their stride is E, not ldx.
    pub dx: Vec<f64>,
    /// (S, E, K)
    pub dw: Vec<f64>,
    /// (S, E)
    pub dbias: Vec<f64>,
}

/// Returns u (S, B, L, E).
pub fn forward(dim: Dims, x: &[f64], w: &[f64], bias: &[f64]) -> Vec<f64> {
    dim.outputs().map(|[s, b, t, e]| silu(dim.conv(x, w, bias, [s, b, t, e]))).collect()
}

/// Gradients of x, w and bias from du (S, B, L, E).
pub fn backward(dim: Dims, x: &[f64], w: &[f64], bias: &[f64], du: &[f64]) -> Grads {
    let dx = vec![0.0; dim.b * dim.l * dim.e];
    let mut g = Grads { dx, dw: vec![0.0; w.len()], dbias: vec![0.0; bias.len()] };
    for ([s, b, t, e], du) in dim.outputs().zip(du) {
        let dc = du * dsilu(dim.conv(x, w, bias, [s, b, t, e]));
        g.dbias[s * dim.e + e] += dc;
        for (k, src) in dim.taps(s, t) {
            g.dw[(s * dim.e + e) * dim.k + k] += dc * x[(b * dim.l + src) * dim.ldx + e];
            g.dx[(b * dim.l + src) * dim.e + e] += dc * w[(s * dim.e + e) * dim.k + k];
        }
    }
    g
}

impl Dims {
    /// The convolution before SiLU at one (s, b, t, e).
    fn conv(self, x: &[f64], w: &[f64], bias: &[f64], [s, b, t, e]: [usize; 4]) -> f64 {
        let term = |(k, src)| w[(s * self.e + e) * self.k + k] * x[(b * self.l + src) * self.ldx + e];
        bias[s * self.e + e] + self.taps(s, t).map(term).sum::<f64>()
    }

    /// All (k, τ) where token t of direction s reads x[τ] at tap k, with τ inside the sequence.
    fn taps(self, s: usize, t: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..self.k).filter_map(move |k| {
            let back = self.k - 1 - k;
            let ahead = if self.same { self.k - 1 - (self.k - 1) / 2 } else { 0 };
            let src = if s == 0 { (t + ahead).checked_sub(back) } else { Some(t + back) };
            Some((k, src.filter(|&src| src < self.l)?))
        })
    }

    /// All (s, b, t, e), in memory order.
    fn outputs(self) -> impl Iterator<Item = [usize; 4]> {
        let Self { b, l, e, .. } = self;
        (0..self.s * b * l * e).map(move |i| [i / e / l / b, i / e / l % b, i / e % l, i % e])
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    /// The second direction must equal flipping the sequence, convolving it forward, and flipping the result back.
    #[test]
    fn second_direction_is_the_flipped_sequence() {
        let (l, e, k) = (7, 3, 4);
        let dim = Dims { s: 2, b: 1, l, e, k, ldx: e, same: false };
        let (x, w, bias) = (random(1, l * e), random(2, 2 * e * k), random(3, 2 * e));
        let flip = |x: &[f64]| x.chunks(e).rev().flatten().copied().collect::<Vec<_>>();
        let u = forward(dim, &x, &w, &bias);
        let flipped = forward(Dims { s: 1, ..dim }, &flip(&x), &w[e * k..], &bias[e..]);
        assert_eq!(u[l * e..], flip(&flipped));
    }

    /// Three taps around a token: the token before, the token, and the token behind.
    #[test]
    fn same_reads_the_neighbors_of_a_token() {
        let dim = Dims { s: 1, b: 1, l: 3, e: 1, k: 3, ldx: 1, same: true };
        let u = forward(dim, &[1.0, 2.0, 4.0], &[1.0, 10.0, 100.0], &[0.0]);
        assert_eq!(u, [210.0, 421.0, 42.0].map(silu));
        let u = forward(Dims { k: 2, ..dim }, &[1.0, 2.0, 4.0], &[1.0, 10.0], &[0.0]);
        assert_eq!(u, [21.0, 42.0, 4.0].map(silu), "of two taps the second is for the token behind");
    }

    #[test]
    fn gradients() {
        for (s, b, l, e, k, ldx, same) in [
            (1, 1, 1, 1, 1, 1, false),
            (2, 2, 5, 3, 4, 6, false),
            (2, 1, 2, 2, 3, 2, false),
            (1, 2, 7, 1, 2, 2, false),
            (1, 2, 5, 2, 3, 2, true),
            (1, 1, 3, 1, 4, 1, true),
        ] {
            let dim = Dims { s, b, l, e, k, ldx, same };
            let (x, w, bias) = (random(1, b * l * ldx), random(2, s * e * k), random(3, s * e));
            let du = random(4, s * b * l * e);
            let g = backward(dim, &x, &w, &bias, &du);
            let padded: Vec<f64> =
                (0..b * l * ldx).map(|i| if i % ldx < e { g.dx[i / ldx * e + i % ldx] } else { 0.0 }).collect();
            check("dx", &x, &padded, |x| dot(&forward(dim, x, &w, &bias), &du));
            check("dw", &w, &g.dw, |w| dot(&forward(dim, &x, w, &bias), &du));
            check("dbias", &bias, &g.dbias, |bias| dot(&forward(dim, &x, &w, bias), &du));
        }
    }
}

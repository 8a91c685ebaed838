//! Softmax attention under a region mask (PyTorch: `F.scaled_dot_product_attention` with a boolean `attn_mask`).
//!
//! ```text
//!   q, out (B, Lq, H, Dh)   k, v (B, Lk, H, Dh)   lse (B, H, Lq)
//!   x[i,j] = scale·q_i·k_j where allowed(i,j)    lse_i = ln Σ_j exp x[i,j]    P = exp(x - lse)    out_i = Σ_j P·v_j
//!   backward:  dP = dout_i·v_j    dx = P·(dP - Σ_j P·dP)
//!     dq_i = scale·Σ_j dx·k_j    dk_j = scale·Σ_i dx·q_i    dv_j = Σ_i P·dout_i
//! ```
//! Every query must see at least one key. In self-attention it always sees its own.

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Samples B.
    pub b: usize,
    /// Queries Lq.
    pub lq: usize,
    /// Keys Lk.
    pub lk: usize,
    /// Heads H.
    pub h: usize,
    /// Width Dh of a head.
    pub dh: usize,
}

/// Which keys a query sees. The two tables hold the region of each query (Lq) and of each key (Lk), for all samples
/// alike. If token t has region t, `RegionCausal` is the usual causal mask. If it has region t / W, where W is the
/// width of the patch grid, `RegionCausal` is MAP's row-causal mask and `SameRegion` its local mask.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a> {
    /// A query sees every key.
    Full,
    /// A query sees the keys of its own region and of regions with lower numbers.
    RegionCausal(&'a [u32], &'a [u32]),
    /// A query sees the keys of its own region.
    SameRegion(&'a [u32], &'a [u32]),
}

impl Mask<'_> {
    /// Whether query i sees key j.
    pub fn allow(self, i: usize, j: usize) -> bool {
        match self {
            Mask::Full => true,
            Mask::RegionCausal(q, k) => k[j] <= q[i],
            Mask::SameRegion(q, k) => k[j] == q[i],
        }
    }
}

/// Results of [`forward`].
pub struct Out {
    /// (B, Lq, H, Dh)
    pub out: Vec<f64>,
    /// (B, H, Lq)
    pub lse: Vec<f64>,
}

/// Gradients of [`forward`].
pub struct Grads {
    /// (B, Lq, H, Dh)
    pub dq: Vec<f64>,
    /// (B, Lk, H, Dh)
    pub dk: Vec<f64>,
    /// (B, Lk, H, Dh)
    pub dv: Vec<f64>,
}

/// Returns out and lse.
pub fn forward(dim: Dims, q: &[f64], k: &[f64], v: &[f64], scale: f64, mask: Mask) -> Out {
    let mut o = Out { out: vec![0.0; q.len()], lse: Vec::with_capacity(dim.b * dim.h * dim.lq) };
    for [b, h, i] in dim.queries() {
        let (qi, keys) = (dim.q(b, i, h), dim.keys(i, mask));
        let (p, lse) = softmax(keys.iter().map(|&j| scale * dot(dim, q, qi, k, dim.k(b, j, h))));
        for (&j, p) in keys.iter().zip(p) {
            let ki = dim.k(b, j, h);
            (0..dim.dh).for_each(|c| o.out[qi + c] += p * v[ki + c]);
        }
        o.lse.push(lse);
    }
    o
}

/// Returns the weights P (B, H, Lq, Lk), 0 where not allowed.
pub fn weights(dim: Dims, q: &[f64], k: &[f64], scale: f64, mask: Mask) -> Vec<f64> {
    let mut all = Vec::with_capacity(dim.b * dim.h * dim.lq * dim.lk);
    for [b, h, i] in dim.queries() {
        let (qi, keys) = (dim.q(b, i, h), dim.keys(i, mask));
        let (p, _) = softmax(keys.iter().map(|&j| scale * dot(dim, q, qi, k, dim.k(b, j, h))));
        let mut row = vec![0.0; dim.lk];
        keys.iter().zip(p).for_each(|(&j, p)| row[j] = p);
        all.extend(row);
    }
    all
}

/// Gradients of q, k and v from dout (B, Lq, H, Dh).
pub fn backward(dim: Dims, q: &[f64], k: &[f64], v: &[f64], scale: f64, mask: Mask, dout: &[f64]) -> Grads {
    let mut g = Grads { dq: vec![0.0; q.len()], dk: vec![0.0; k.len()], dv: vec![0.0; v.len()] };
    for [b, h, i] in dim.queries() {
        let (qi, keys) = (dim.q(b, i, h), dim.keys(i, mask));
        let (p, _) = softmax(keys.iter().map(|&j| scale * dot(dim, q, qi, k, dim.k(b, j, h))));
        let dp: Vec<f64> = keys.iter().map(|&j| dot(dim, dout, qi, v, dim.k(b, j, h))).collect();
        let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
        for ((&j, p), dp) in keys.iter().zip(p).zip(dp) {
            let (ki, dx) = (dim.k(b, j, h), p * (dp - mean));
            for c in 0..dim.dh {
                g.dq[qi + c] += scale * dx * k[ki + c];
                g.dk[ki + c] += scale * dx * q[qi + c];
                g.dv[ki + c] += p * dout[qi + c];
            }
        }
    }
    g
}

/// Softmax and logsumexp of x.
fn softmax(x: impl Iterator<Item = f64>) -> (Vec<f64>, f64) {
    let x: Vec<f64> = x.collect();
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lse = max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
    (x.iter().map(|x| (x - lse).exp()).collect(), lse)
}

/// Dot product of the head of `a` at `ai` and the head of `b` at `bi`.
fn dot(dim: Dims, a: &[f64], ai: usize, b: &[f64], bi: usize) -> f64 {
    (0..dim.dh).map(|c| a[ai + c] * b[bi + c]).sum()
}

impl Dims {
    /// All (b, h, i), in the order of lse.
    fn queries(self) -> impl Iterator<Item = [usize; 3]> {
        (0..self.b * self.h * self.lq).map(move |n| [n / self.lq / self.h, n / self.lq % self.h, n % self.lq])
    }

    fn keys(self, i: usize, mask: Mask) -> Vec<usize> {
        (0..self.lk).filter(|&j| mask.allow(i, j)).collect()
    }

    fn q(self, b: usize, i: usize, h: usize) -> usize {
        ((b * self.lq + i) * self.h + h) * self.dh
    }

    fn k(self, b: usize, j: usize, h: usize) -> usize {
        ((b * self.lk + j) * self.h + h) * self.dh
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, close, dot, random};
    use super::*;

    /// Number of (query, key) pairs that each of the four decoder masks allows on a 14×14 grid.
    #[test]
    fn pair_counts() {
        let (token, row): (Vec<u32>, Vec<u32>) = (0..196).map(|t| (t, t / 14)).unzip();
        let count = |mask: Mask| (0..196 * 196).filter(|n| mask.allow(n / 196, n % 196)).count();
        assert_eq!(count(Mask::RegionCausal(&token, &token)), 19_306);
        assert_eq!(count(Mask::Full), 38_416);
        assert_eq!(count(Mask::SameRegion(&row, &row)), 2_744);
        assert_eq!(count(Mask::RegionCausal(&row, &row)), 20_580);
    }

    /// With equal keys, out is the mean of the seen values, and lse = score + ln(number of seen keys). Scores of 800
    /// must not overflow exp.
    #[test]
    fn equal_keys_average() {
        let dim = Dims { b: 1, lq: 3, lk: 3, h: 1, dh: 1 };
        let o =
            forward(dim, &[800.0; 3], &[1.0; 3], &[3.0, 6.0, 12.0], 1.0, Mask::RegionCausal(&[0, 1, 2], &[0, 1, 2]));
        close("out", &o.out, &[3.0, 4.5, 7.0], 1e-12);
        close("lse", &o.lse, &[800.0, 800.0 + 2f64.ln(), 800.0 + 3f64.ln()], 1e-15);
    }

    #[test]
    fn gradients() {
        let region: Vec<u32> = (0..7).map(|t| t / 3).collect();
        let same = &region[..5];
        for (b, lq, lk, h, dh, mask) in [
            (1, 1, 1, 1, 1, Mask::Full),
            (2, 3, 5, 2, 3, Mask::Full),
            (1, 5, 7, 2, 2, Mask::RegionCausal(same, &region)),
            (2, 5, 5, 1, 3, Mask::SameRegion(same, same)),
        ] {
            let dim = Dims { b, lq, lk, h, dh };
            let (q, dout) = (random(1, b * lq * h * dh), random(2, b * lq * h * dh));
            let (k, v) = (random(3, b * lk * h * dh), random(4, b * lk * h * dh));
            let loss = |q: &[f64], k: &[f64], v: &[f64]| dot(&forward(dim, q, k, v, 0.6, mask).out, &dout);
            let g = backward(dim, &q, &k, &v, 0.6, mask, &dout);
            check("dq", &q, &g.dq, |q| loss(q, &k, &v));
            check("dk", &k, &g.dk, |k| loss(&q, k, &v));
            check("dv", &v, &g.dv, |v| loss(&q, &k, v));
        }
    }
}

//! Mamba3D's local norm pooling: the differences to each point's neighbors, normalized by one deviation, scaled, and
//! pooled by their own softmax; beside them the point itself, scaled.
//!
//! ```text
//!   x (B, T, C)   index (B, T, K): the neighbors of each point   α, β (2C)   y (B, T, 2C)
//!   d_n = x[index_n] − x    s: the unbiased deviation of all d of the batch, or of a cloud    v_n = d_n/(s + 1e-5)
//!   f_n = α₁·v_n + β₁    y = [Σ_n f_n·e^f_n / Σ_n e^f_n,  α₂·x + β₂]
//! ```
//! Backward, with g = dy, p = softmax_n f, M values d of mean m in a group:
//! ```text
//!   df_n = p_n·g₁·(1 + f_n − y₁)    dα₁ = Σ df·v    dβ₁ = Σ df    dα₂ = Σ g₂·x    dβ₂ = Σ g₂
//!   dd = α₁·df/(s+ε) − (d − m)/((M−1)·s)·Σ(α₁·df·d)/(s+ε)²,  without the second term where s = 0
//!   dx[index_n] += dd_n    dx += α₂·g₂ − Σ_n dd_n
//! ```

/// Added to the deviation.
pub const EPS: f64 = 1e-5;

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Clouds B.
    pub b: usize,
    /// Points T of a cloud.
    pub t: usize,
    /// Neighbors K of a point.
    pub k: usize,
    /// Channels C.
    pub c: usize,
    /// Whether each cloud has a deviation of its own.
    pub per_cloud: bool,
}

/// Gradients of [`backward`].
pub struct Grads {
    /// (B, T, C)
    pub dx: Vec<f64>,
    /// (2C)
    pub dalpha: Vec<f64>,
    /// (2C)
    pub dbeta: Vec<f64>,
}

/// Returns y (B, T, 2C).
pub fn forward(dim: Dims, x: &[f64], index: &[u32], alpha: &[f64], beta: &[f64]) -> Vec<f64> {
    let (mut y, moments) = (Vec::new(), dim.moments(x, index));
    for row in 0..dim.b * dim.t {
        let (_, s) = moments[row / dim.t];
        y.extend((0..dim.c).map(|c| dim.pooled(x, index, (alpha, beta), s, [row, c]).0));
        y.extend((0..dim.c).map(|c| alpha[dim.c + c] * x[row * dim.c + c] + beta[dim.c + c]));
    }
    y
}

/// Gradients of x, α and β from dy (B, T, 2C).
pub fn backward(dim: Dims, x: &[f64], index: &[u32], alpha: &[f64], beta: &[f64], dy: &[f64]) -> Grads {
    let Dims { b, t, k, c: width, .. } = dim;
    let (mut dx, mut dalpha, mut dbeta) = (vec![0.0; x.len()], vec![0.0; 2 * width], vec![0.0; 2 * width]);
    let mut dd = vec![0.0; b * t * k * width]; // of v at first
    let moments = dim.moments(x, index);
    for i in 0..b * t * width {
        let (row, c) = (i / width, i % width);
        let (_, s) = moments[row / t];
        let (y, f) = dim.pooled(x, index, (alpha, beta), s, [row, c]);
        let total: f64 = f.iter().map(|f| f.exp()).sum();
        for (n, f) in f.iter().enumerate() {
            let df = f.exp() / total * dy[2 * row * width + c] * (1.0 + f - y);
            dalpha[c] += df * dim.d(x, index, [row, n, c]) / (s + EPS);
            dbeta[c] += df;
            dd[(row * k + n) * width + c] = alpha[c] * df;
        }
        let g = dy[(2 * row + 1) * width + c];
        dalpha[width + c] += g * x[i];
        dbeta[width + c] += g;
        dx[i] += alpha[width + c] * g;
    }
    let clouds = if dim.per_cloud { 1 } else { b };
    let rows = clouds * t;
    for first in (0..b * t).step_by(rows) {
        let (m, s) = moments[first / t];
        let all = (first..first + rows).flat_map(|row| (0..k * width).map(move |i| [row, i / width, i % width]));
        let at = |[row, n, c]: [usize; 3]| (row * k + n) * width + c;
        let along: f64 = all.clone().map(|i| dd[at(i)] * dim.d(x, index, i)).sum();
        let count = (rows * k * width - 1) as f64;
        let slope = if s > 0.0 { along / (count * s * (s + EPS) * (s + EPS)) } else { 0.0 };
        for i in all {
            let dd = dd[at(i)] / (s + EPS) - (dim.d(x, index, i) - m) * slope;
            let [row, n, c] = i;
            dx[dim.neighbor(index, row, n) * width + c] += dd;
            dx[row * width + c] -= dd;
        }
    }
    Grads { dx, dalpha, dbeta }
}

impl Dims {
    /// Row of x of a row's neighbor n.
    fn neighbor(self, index: &[u32], row: usize, n: usize) -> usize {
        row / self.t * self.t + index[row * self.k + n] as usize
    }

    fn d(self, x: &[f64], index: &[u32], [row, n, c]: [usize; 3]) -> f64 {
        x[self.neighbor(index, row, n) * self.c + c] - x[row * self.c + c]
    }

    /// Of each cloud, mean and unbiased deviation of the differences of its group.
    fn moments(self, x: &[f64], index: &[u32]) -> Vec<(f64, f64)> {
        let of_rows = |first: usize, rows: usize| {
            let of_row = |row| (0..self.k * self.c).map(move |i| self.d(x, index, [row, i / self.c, i % self.c]));
            let all: Vec<f64> = (first..first + rows).flat_map(of_row).collect();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            let squares: f64 = all.iter().map(|d| (d - mean) * (d - mean)).sum();
            (mean, (squares / (all.len() - 1) as f64).sqrt())
        };
        match self.per_cloud {
            true => (0..self.b).map(|cloud| of_rows(cloud * self.t, self.t)).collect(),
            false => vec![of_rows(0, self.b * self.t); self.b],
        }
    }

    /// y₁ of a row and channel, and its f of each neighbor.
    fn pooled(
        self, x: &[f64], index: &[u32], (alpha, beta): (&[f64], &[f64]), s: f64, [row, c]: [usize; 2],
    ) -> (f64, Vec<f64>) {
        let f = |n| alpha[c] * self.d(x, index, [row, n, c]) / (s + EPS) + beta[c];
        let f: Vec<f64> = (0..self.k).map(f).collect();
        let total: f64 = f.iter().map(|f| f.exp()).sum();
        (f.iter().map(|f| f * f.exp()).sum::<f64>() / total, f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::super::rng::philox;
    use super::*;

    #[test]
    fn two_points_by_hand() {
        let dim = Dims { b: 1, t: 2, k: 2, c: 1, per_cloud: false };
        let y = forward(dim, &[1.0, 1.0], &[0, 1, 1, 0], &[1.0, 2.0], &[0.5, 3.0]);
        assert_eq!(y, [0.5, 5.0, 0.5, 5.0]); // no differences: f is β
        let x = [0.0, 2.0];
        let [(mean, s)] = dim.moments(&x, &[0, 1, 1, 0])[..] else { panic!("one cloud") }; // 0, 2, 0, −2
        assert_eq!(mean, 0.0);
        assert!((s - (8.0f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn gradients() {
        for (b, t, k, c, per_cloud) in
            [(1, 3, 2, 1, false), (2, 4, 3, 2, false), (2, 4, 3, 2, true), (1, 2, 1, 3, true)]
        {
            let dim = Dims { b, t, k, c, per_cloud };
            let index: Vec<u32> = (0..(b * t * k) as u32).map(|i| philox([i, 0, 0, 0], [9, 9])[0] % t as u32).collect();
            let (x, dy) = (random(1, b * t * c), random(2, 2 * b * t * c));
            let (alpha, beta) = (random(3, 2 * c), random(4, 2 * c));
            let g = backward(dim, &x, &index, &alpha, &beta, &dy);
            check("dx", &x, &g.dx, |x| dot(&forward(dim, x, &index, &alpha, &beta), &dy));
            check("dalpha", &alpha, &g.dalpha, |alpha| dot(&forward(dim, &x, &index, alpha, &beta), &dy));
            check("dbeta", &beta, &g.dbeta, |beta| dot(&forward(dim, &x, &index, &alpha, beta), &dy));
        }
    }
}

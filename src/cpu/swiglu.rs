//! The gated layer of a SwiGLU MLP (`F.silu(a) * b`).
//!
//! ```text
//!   x (rows, 2H): a | b   y (rows, H)
//!   y = SiLU(a)·b    da = dy·b·SiLU'(a)    db = dy·SiLU(a)
//! ```
use super::activation::{dsilu, silu};

/// Returns y (rows, H).
pub fn forward(h: usize, x: &[f64]) -> Vec<f64> {
    x.chunks(2 * h).flat_map(|row| (0..h).map(|i| silu(row[i]) * row[h + i])).collect()
}

/// Gradient dx (rows, 2H) from dy (rows, H).
pub fn backward(h: usize, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let row = |(x, dy): (&[f64], &[f64])| -> Vec<f64> {
        let da = (0..h).map(|i| dy[i] * x[h + i] * dsilu(x[i]));
        da.chain((0..h).map(|i| dy[i] * silu(x[i]))).collect()
    };
    x.chunks(2 * h).zip(dy.chunks(h)).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, close, dot, random};
    use super::*;

    #[test]
    fn by_hand() {
        close("y", &forward(1, &[0.0, 5.0, 2.0, 3.0]), &[0.0, 6.0 / (1.0 + (-2f64).exp())], 1e-12);
    }

    #[test]
    fn gradients() {
        for (rows, h) in [(1, 1), (3, 5)] {
            let (x, dy) = (random(1, rows * 2 * h), random(2, rows * h));
            check("dx", &x, &backward(h, &x, &dy), |x| dot(&forward(h, x), &dy));
        }
    }
}

//! A gate for each channel of a sample, as in squeeze-and-excitation: `x * t.sigmoid().unsqueeze(1)`.
//!
//! ```text
//!   x, y (B, L, C)   t (B, C)
//!   y = x·σ(t)    dx = dy·σ(t)    dt = σ(t)·(1 - σ(t))·Σ_l dy·x
//! ```
use super::activation::sigmoid;

/// Returns y (B, L, C). `l` is L, `c` is C.
pub fn forward(l: usize, c: usize, x: &[f64], t: &[f64]) -> Vec<f64> {
    x.iter().enumerate().map(|(i, x)| x * sigmoid(t[i / (l * c) * c + i % c])).collect()
}

/// Gradients dx (B, L, C) and dt (B, C) from dy (B, L, C).
pub fn backward(l: usize, c: usize, x: &[f64], t: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut dt = vec![0.0; t.len()];
    for (i, (x, dy)) in x.iter().zip(dy).enumerate() {
        let at = i / (l * c) * c + i % c;
        dt[at] += sigmoid(t[at]) * (1.0 - sigmoid(t[at])) * dy * x;
    }
    (forward(l, c, dy, t), dt)
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn gradients() {
        for (b, l, c) in [(1, 1, 1), (2, 5, 3)] {
            let (x, t, dy) = (random(1, b * l * c), random(2, b * c), random(3, b * l * c));
            let (dx, dt) = backward(l, c, &x, &t, &dy);
            check("dx", &x, &dx, |x| dot(&forward(l, c, x, &t), &dy));
            check("dt", &t, &dt, |t| dot(&forward(l, c, &x, t), &dy));
        }
    }
}

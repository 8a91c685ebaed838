//! Sums over a whole tensor, over rows or over tokens (`x.sum()`, `x.mean()`, `x.sum(0)`, `x.mean(1)` in PyTorch).
//!
//! ```text
//!   sum:         y = Σ x                        dx = dy everywhere
//!   mean:        y = Σ x / n                    dx = dy/n everywhere
//!   mean_tokens: x (B, L, D) -> y (B, D) = Σ_l x / L    dx = dy/L for every token
//!   column_sum:  x (rows, D) -> y (D) = Σ_rows x    dx (rows, D) = dy in every row
//! ```

/// Returns Σ x.
pub fn sum(x: &[f64]) -> f64 {
    x.iter().sum()
}

/// Gradient dx (n) of [`sum`].
pub fn sum_backward(n: usize, dy: f64) -> Vec<f64> {
    vec![dy; n]
}

/// Returns Σ x / n.
pub fn mean(x: &[f64]) -> f64 {
    sum(x) / x.len() as f64
}

/// Gradient dx (n) of [`mean`].
pub fn mean_backward(n: usize, dy: f64) -> Vec<f64> {
    vec![dy / n as f64; n]
}

/// Mean over tokens: x (B, L, D) -> y (B, D).
pub fn mean_tokens(l: usize, d: usize, x: &[f64]) -> Vec<f64> {
    x.chunks_exact(l * d).flat_map(|x| column_sum(d, x)).map(|sum| sum / l as f64).collect()
}

/// Gradient dx (B, L, D) of [`mean_tokens`] from dy (B, D).
pub fn mean_tokens_backward(l: usize, d: usize, dy: &[f64]) -> Vec<f64> {
    dy.chunks_exact(d).flat_map(|dy| dy.repeat(l)).map(|dy| dy / l as f64).collect()
}

/// Sum over rows: x (rows, D) -> y (D).
pub fn column_sum(d: usize, x: &[f64]) -> Vec<f64> {
    (0..d).map(|c| x.iter().skip(c).step_by(d).sum()).collect()
}

/// Gradient dx (rows, D) of [`column_sum`] from dy (D).
pub fn column_sum_backward(rows: usize, dy: &[f64]) -> Vec<f64> {
    dy.repeat(rows)
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn by_hand() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!((sum(&x), mean(&x)), (21.0, 3.5));
        assert_eq!(column_sum(3, &x), [5.0, 7.0, 9.0]);
        assert_eq!(mean_tokens(3, 1, &x), [2.0, 5.0]);
    }

    #[test]
    fn gradients() {
        for (rows, d) in [(1, 1), (5, 3), (2, 7)] {
            let (x, dy) = (random(1, rows * d), random(2, d));
            check("sum dx", &x, &sum_backward(x.len(), 0.7), |x| 0.7 * sum(x));
            check("mean dx", &x, &mean_backward(x.len(), 0.7), |x| 0.7 * mean(x));
            let per_sample = random(3, 2 * d);
            let two = random(4, 2 * rows * d);
            let dx = mean_tokens_backward(rows, d, &per_sample);
            check("mean_tokens dx", &two, &dx, |x| dot(&mean_tokens(rows, d, x), &per_sample));
            check("column_sum dx", &x, &column_sum_backward(rows, &dy), |x| dot(&column_sum(d, x), &dy));
        }
    }
}

//! Rows scaled to unit length: y = x/max(‖x‖, 1e-12) (`F.normalize(x, dim=-1)` in PyTorch).
//!
//! ```text
//!   x, y, dx, dy (rows, D)   dx = (dy − y·(y·dy))/‖x‖; where ‖x‖ < 1e-12, dx = dy/1e-12
//! ```

const EPS: f64 = 1e-12;

/// Returns y (rows, D).
pub fn forward(d: usize, x: &[f64]) -> Vec<f64> {
    x.chunks(d).flat_map(|row| row.iter().map(|x| x / norm(row).max(EPS))).collect()
}

/// Gradient dx (rows, D).
pub fn backward(d: usize, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut dx = Vec::with_capacity(x.len());
    for (x, dy) in x.chunks(d).zip(dy.chunks(d)) {
        let norm = norm(x);
        let along = if norm < EPS { 0.0 } else { x.iter().zip(dy).map(|(x, dy)| x * dy).sum::<f64>() / norm };
        dx.extend(x.iter().zip(dy).map(|(x, dy)| (dy - x / norm.max(EPS) * along) / norm.max(EPS)));
    }
    dx
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, close, dot, random};
    use super::*;

    #[test]
    fn by_hand() {
        close("y", &forward(2, &[3.0, -4.0, 0.0, 0.0]), &[0.6, -0.8, 0.0, 0.0], 1e-15);
        assert_eq!(backward(1, &[0.0], &[2.0]), [2e12]);
    }

    #[test]
    fn gradients() {
        for (rows, d) in [(1, 1), (3, 7)] {
            let (x, dy) = (random(1, rows * d), random(2, rows * d));
            check("dx", &x, &backward(d, &x, &dy), |x| dot(&forward(d, x), &dy));
        }
    }
}

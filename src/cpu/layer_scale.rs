//! A residual branch with layer scale and DropPath (timm: `x + drop_path(h * gamma)`).
//!
//! ```text
//!   x, h, y (rows, C)   gamma (C)   drop_path (rows / L), the DropPath factor of each sample; absent it counts as 1
//!   y = x + drop_path·gamma·h    dx = dy    dh = drop_path·gamma·dy    dgamma = Σ_rows drop_path·h·dy
//! ```

/// Returns y (rows, C). `l` is the number of rows of a sample.
pub fn forward(l: usize, x: &[f64], h: &[f64], gamma: &[f64], drop_path: Option<&[f64]>) -> Vec<f64> {
    let c = gamma.len();
    let term = |i: usize| factor(i, l, c, drop_path) * gamma[i % c] * h[i];
    x.iter().enumerate().map(|(i, x)| x + term(i)).collect()
}

/// Gradients dh (rows, C) and dgamma (C) from dy (rows, C). dx is dy.
pub fn backward(l: usize, h: &[f64], gamma: &[f64], drop_path: Option<&[f64]>, dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let c = gamma.len();
    let mut dgamma = vec![0.0; c];
    let dh = |(i, dy): (usize, &f64)| {
        let kept = factor(i, l, c, drop_path) * dy;
        dgamma[i % c] += kept * h[i];
        kept * gamma[i % c]
    };
    (dy.iter().enumerate().map(dh).collect(), dgamma)
}

fn factor(i: usize, l: usize, c: usize, drop_path: Option<&[f64]>) -> f64 {
    drop_path.map_or(1.0, |drop_path| drop_path[i / (l * c)])
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn gradients() {
        for (b, l, c, drops) in [(1, 1, 1, false), (2, 5, 3, true)] {
            let (x, h, gamma) = (random(1, b * l * c), random(2, b * l * c), random(3, c));
            let (kept, dy) = (random(4, b), random(5, b * l * c));
            let drop_path = drops.then_some(&kept[..]);
            let (dh, dgamma) = backward(l, &h, &gamma, drop_path, &dy);
            check("dx", &x, &dy, |x| dot(&forward(l, x, &h, &gamma, drop_path), &dy));
            check("dh", &h, &dh, |h| dot(&forward(l, &x, h, &gamma, drop_path), &dy));
            check("dgamma", &gamma, &dgamma, |gamma| dot(&forward(l, &x, &h, gamma, drop_path), &dy));
        }
    }
}

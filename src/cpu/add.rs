//! The sum of two tensors, element by element, and the same with DropPath on the second (timm: `a + drop_path(b)`).
//!
//! ```text
//!   forward:         y = a + b                  da = dy   db = dy
//!   with_drop_path:  y = a + drop_path·b        da = dy   db = drop_path·dy      drop_path (B): factor of each sample
//! ```

/// Gradients of [`forward`].
pub struct Grads {
    /// Gradient of a, in its shape.
    pub da: Vec<f64>,
    /// Gradient of b, in its shape.
    pub db: Vec<f64>,
}

/// Returns y, of the shape of a.
pub fn forward(a: &[f64], b: &[f64]) -> Vec<f64> {
    assert_eq!(a.len(), b.len(), "add: a and b differ in length");
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Gradients of a and b.
pub fn backward(dy: &[f64]) -> Grads {
    Grads { da: dy.to_vec(), db: dy.to_vec() }
}

/// Returns y (B, ..) = a + drop_path·b.
pub fn with_drop_path(a: &[f64], b: &[f64], drop_path: &[f64]) -> Vec<f64> {
    let per = a.len() / drop_path.len();
    a.iter().zip(b).enumerate().map(|(i, (a, b))| a + drop_path[i / per] * b).collect()
}

/// Gradients of a and b in [`with_drop_path`].
pub fn drop_path_backward(dy: &[f64], drop_path: &[f64]) -> Grads {
    let per = dy.len() / drop_path.len();
    Grads { da: dy.to_vec(), db: dy.iter().enumerate().map(|(i, dy)| drop_path[i / per] * dy).collect() }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn gradients() {
        for n in [1, 7] {
            let (a, b, dy) = (random(1, n), random(2, n), random(3, n));
            let g = backward(&dy);
            check("da", &a, &g.da, |a| dot(&forward(a, &b), &dy));
            check("db", &b, &g.db, |b| dot(&forward(&a, b), &dy));
        }
        let (a, b, dy, drop_path) = (random(1, 6), random(2, 6), random(3, 6), [1.25, 0.0, 2.0]);
        let g = drop_path_backward(&dy, &drop_path);
        check("with_drop_path da", &a, &g.da, |a| dot(&with_drop_path(a, &b, &drop_path), &dy));
        check("with_drop_path db", &b, &g.db, |b| dot(&with_drop_path(&a, b, &drop_path), &dy));
    }
}

//! y = a + b, element by element, any shape.   da = dy, db = dy

/// Gradients of [`forward`].
pub struct Grads {
    /// Like a.
    pub da: Vec<f64>,
    /// Like b.
    pub db: Vec<f64>,
}

/// -> y, like a
pub fn forward(a: &[f64], b: &[f64]) -> Vec<f64> {
    assert_eq!(a.len(), b.len(), "add: a and b differ in length");
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// dy -> da, db
pub fn backward(dy: &[f64]) -> Grads {
    Grads { da: dy.to_vec(), db: dy.to_vec() }
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
    }
}

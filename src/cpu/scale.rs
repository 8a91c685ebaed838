//! y = c·a for one number c, any shape.   da = c·dy   (c is a constant: it has no gradient)

/// Returns y, of the shape of a.
pub fn forward(a: &[f64], c: f64) -> Vec<f64> {
    a.iter().map(|a| c * a).collect()
}

/// Gradient da.
pub fn backward(c: f64, dy: &[f64]) -> Vec<f64> {
    dy.iter().map(|dy| c * dy).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn gradients() {
        for n in [1, 7] {
            let (a, dy) = (random(1, n), random(2, n));
            check("da", &a, &backward(-0.7, &dy), |a| dot(&forward(a, -0.7), &dy));
        }
    }
}

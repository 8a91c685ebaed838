//! Dropout with given factors (PyTorch's `F.dropout` and `F.dropout2d` with a known mask): `y = x·factors` of x (B, L,
//! C) and factors (B, C). The gradient of x is the same function of dy.

/// Returns y (B, L, C); `l` is the number L of pixels that share factors.
pub fn scale(l: usize, c: usize, x: &[f64], factors: &[f64]) -> Vec<f64> {
    x.iter().enumerate().map(|(i, x)| x * factors[i / (l * c) * c + i % c]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn gradients() {
        for (b, l, c) in [(1, 1, 1), (2, 3, 4)] {
            let (x, factors, dy) = (random(1, b * l * c), random(2, b * c), random(3, b * l * c));
            check("dx", &x, &scale(l, c, &dy, &factors), |x| dot(&scale(l, c, x, &factors), &dy));
        }
    }
}

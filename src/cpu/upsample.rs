//! Maps of twice the size: `F.interpolate(x, scale_factor=2, mode="nearest")`.
//!
//! ```text
//!   x, dx (B, H, W, C)   y, dy (B, 2H, 2W, C)
//!   y[b, i, j, c] = x[b, i/2, j/2, c]      dx[b, i, j, c] = the sum of dy over the four cells of (i, j)
//! ```

/// Indices of x for each element of y. `size` is [B, H, W, C].
fn sources([b, h, w, c]: [usize; 4]) -> impl Iterator<Item = usize> {
    (0..b * 2 * h * 2 * w * c).map(move |i| {
        let (row, column) = (i / (c * 2 * w) / 2, i / c % (2 * w) / 2);
        (row * w + column) * c + i % c
    })
}

/// Returns y.
pub fn nearest(size: [usize; 4], x: &[f64]) -> Vec<f64> {
    sources(size).map(|i| x[i]).collect()
}

/// Returns dx.
pub fn nearest_backward(size: [usize; 4], dy: &[f64]) -> Vec<f64> {
    let mut dx = vec![0.0; size.iter().product()];
    sources(size).zip(dy).for_each(|(i, dy)| dx[i] += dy);
    dx
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn by_hand_and_gradient() {
        assert_eq!(nearest([1, 1, 2, 1], &[3.0, 4.0]), [3.0, 3.0, 4.0, 4.0, 3.0, 3.0, 4.0, 4.0]);
        let size = [2, 3, 2, 3];
        let (x, dy) = (random(1, 36), random(2, 144));
        check("dx", &x, &nearest_backward(size, &dy), |x| dot(&nearest(size, x), &dy));
    }
}

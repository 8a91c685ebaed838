//! One channel of each sample (`x[torch.arange(R), :, index]`).
//!
//! ```text
//!   x, dx (R, P, K)   index (R)   y, dy (R, P)
//!   y[r, i] = x[r, i, index[r]];  0 where the index is not below K
//! ```

/// Returns y.
pub fn forward(p: usize, k: usize, x: &[f64], index: &[u32]) -> Vec<f64> {
    let of = |i: usize| if (index[i / p] as usize) < k { x[i * k + index[i / p] as usize] } else { 0.0 };
    (0..index.len() * p).map(of).collect()
}

/// Returns dx.
pub fn backward(p: usize, k: usize, index: &[u32], dy: &[f64]) -> Vec<f64> {
    let of = |i: usize| if index[i / k / p] as usize == i % k { dy[i / k] } else { 0.0 };
    (0..index.len() * p * k).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn by_hand_and_gradient() {
        assert_eq!(forward(1, 2, &[1.0, 2.0, 3.0, 4.0], &[1, 7]), [2.0, 0.0]);
        let (x, dy, index) = (random(1, 3 * 2 * 4), random(2, 6), [3, 0, 4]);
        check("dx", &x, &backward(2, 4, &index, &dy), |x| dot(&forward(2, 4, x, &index), &dy));
    }
}

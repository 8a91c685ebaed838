//! Sums of the rows of matrices that lie in one flat array. No gradient: they add up gradients.
//!
//! ```text
//!   y[c] = Σ_r x[at + r·stride + c],  r < rows, c < cols
//! ```

/// Returns y (cols). Row r of the matrix begins at element `at` + r·`stride` of x.
pub fn sum(x: &[f64], at: usize, rows: usize, stride: usize, cols: usize) -> Vec<f64> {
    (0..cols).map(|c| (0..rows).map(|r| x[at + r * stride + c]).sum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let x = [9.0, 1.0, 2.0, 9.0, 3.0, 4.0];
        assert_eq!(sum(&x, 1, 2, 3, 2), [4.0, 6.0]);
        assert_eq!(sum(&x, 1, 0, 3, 2), [0.0, 0.0]);
    }
}

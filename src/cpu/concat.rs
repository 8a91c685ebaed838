//! Rows side by side, and a part of rows (torch.cat and torch.narrow along the last dimension).
//!
//! ```text
//!   part i (rows, width_i)   y (rows, ld):  y[r, start_i + c] = part_i[r, c], 0 in columns that no part covers
//!   x (rows, ld)             out (rows, len):  out[r, c] = x[r, start + c]
//!   backward   dpart_i = narrow(dy, start_i, width_i)      dx = concat of dout at `start`
//! ```

/// A part: its first column in the result, its width, and its values.
pub type Part<'a> = (usize, usize, &'a [f64]);

/// Returns y.
pub fn forward(rows: usize, ld: usize, parts: &[Part<'_>]) -> Vec<f64> {
    let mut y = vec![0.0; rows * ld];
    for &(start, width, values) in parts {
        for r in 0..rows {
            y[r * ld + start..][..width].copy_from_slice(&values[r * width..][..width]);
        }
    }
    y
}

/// Returns columns `start..start + len` of x. Applied to dy, it is the gradient of a part.
pub fn narrow(x: &[f64], ld: usize, start: usize, len: usize) -> Vec<f64> {
    x.chunks(ld).flat_map(|row| &row[start..start + len]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn by_hand() {
        let y = forward(2, 5, &[(0, 1, &[1.0, 2.0]), (2, 2, &[3.0, 4.0, 5.0, 6.0])]);
        assert_eq!(y, [1.0, 0.0, 3.0, 4.0, 0.0, 2.0, 0.0, 5.0, 6.0, 0.0]);
        assert_eq!(narrow(&y, 5, 2, 2), [3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn gradients() {
        let (rows, ld) = (3, 7);
        let (a, b, dy) = (random(1, rows * 2), random(2, rows * 3), random(3, rows * ld));
        let loss = |a: &[f64], b: &[f64]| dot(&forward(rows, ld, &[(1, 2, a), (4, 3, b)]), &dy);
        check("da", &a, &narrow(&dy, ld, 1, 2), |a| loss(a, &b));
        check("db", &b, &narrow(&dy, ld, 4, 3), |b| loss(&a, b));
        let (x, dout) = (random(4, rows * ld), random(5, rows * 3));
        check("dx", &x, &forward(rows, ld, &[(2, 3, &dout)]), |x| dot(&narrow(x, ld, 2, 3), &dout));
    }
}

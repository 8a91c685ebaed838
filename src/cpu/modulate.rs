//! The two element-wise steps of an adaLN block (DiT's `modulate()` and `x + gate * branch`; MAR's denoiser).
//!
//! ```text
//!   x, h, y (rows, D)   m (rows, P·D), columns shift | scale | gate; without gate if P = 2
//!   modulate: y = x·(1 + scale) + shift      dx = dy·(1 + scale)   dshift = dy   dscale = dy·x   dgate = 0
//!   gate:     y = x + gate·h                 dx = dy   dh = dy·gate   dgate = dy·h   dshift = dscale = 0
//! ```

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Rows of x.
    pub rows: usize,
    /// Width D of x.
    pub d: usize,
    /// Parts P of m, 2 or 3.
    pub parts: usize,
}

impl Dims {
    fn each(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.rows * self.d).map(move |i| (i, i / self.d * self.parts * self.d + i % self.d))
    }
}

/// Returns y (rows, D) of the step modulate.
pub fn modulate(dim: Dims, x: &[f64], m: &[f64]) -> Vec<f64> {
    dim.each().map(|(i, at)| x[i] * (1.0 + m[at + dim.d]) + m[at]).collect()
}

/// Gradients dx (rows, D) and dm (rows, P·D) of [`modulate`].
pub fn modulate_backward(dim: Dims, x: &[f64], m: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut dm = vec![0.0; m.len()];
    for (i, at) in dim.each() {
        dm[at] = dy[i];
        dm[at + dim.d] = dy[i] * x[i];
    }
    (dim.each().map(|(i, at)| dy[i] * (1.0 + m[at + dim.d])).collect(), dm)
}

/// Returns y (rows, D) of the step gate.
pub fn gate(dim: Dims, x: &[f64], h: &[f64], m: &[f64]) -> Vec<f64> {
    dim.each().map(|(i, at)| x[i] + m[at + 2 * dim.d] * h[i]).collect()
}

/// Gradients dh (rows, D) and dm (rows, P·D) of [`gate`]; dx is dy itself.
pub fn gate_backward(dim: Dims, h: &[f64], m: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut dm = vec![0.0; m.len()];
    dim.each().for_each(|(i, at)| dm[at + 2 * dim.d] = dy[i] * h[i]);
    (dim.each().map(|(i, at)| dy[i] * m[at + 2 * dim.d]).collect(), dm)
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn by_hand() {
        let dim = Dims { rows: 1, d: 2, parts: 3 };
        let m = [1.0, 2.0, 0.5, -1.0, 10.0, 0.0];
        assert_eq!(modulate(dim, &[4.0, 4.0], &m), [7.0, 2.0]);
        assert_eq!(gate(dim, &[4.0, 4.0], &[3.0, 3.0], &m), [34.0, 4.0]);
    }

    #[test]
    fn gradients() {
        for (rows, d, parts) in [(1, 1, 2), (3, 5, 3), (2, 7, 2)] {
            let dim = Dims { rows, d, parts };
            let [x, h, dy] = [1, 2, 3].map(|seed| random(seed, rows * d));
            let m = random(4, rows * parts * d);
            let (dx, dm) = modulate_backward(dim, &x, &m, &dy);
            check("dx", &x, &dx, |x| dot(&modulate(dim, x, &m), &dy));
            check("dm", &m, &dm, |m| dot(&modulate(dim, &x, m), &dy));
            if parts == 3 {
                let (dh, dm) = gate_backward(dim, &h, &m, &dy);
                check("dx", &x, &dy, |x| dot(&gate(dim, x, &h, &m), &dy));
                check("dh", &h, &dh, |h| dot(&gate(dim, &x, h, &m), &dy));
                check("dm", &m, &dm, |m| dot(&gate(dim, &x, &h, m), &dy));
            }
        }
    }
}

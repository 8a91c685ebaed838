//! Registers among tokens (timm's prefix tokens, at any place): `insert` puts n registers at places first + k·step of a
//! sequence, `extract` takes them out, `rest` takes the other tokens.
//!
//! ```text
//!   insert:   x (B, L, D), r (n, D) for all samples or (B, n, D) -> out (B, L+n, D)
//!     dx = rest(dout)    dr = extract(dout), summed over the samples that share r
//!   extract:  x (B, L+n, D) -> out (B, n, D)      dx = dout at the places of registers, 0 elsewhere
//!   rest:     x (B, L+n, D) -> out (B, L, D)      dx = dout at the other places, 0 at those of registers
//! ```

/// Sizes of the operands and places of the registers.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Samples B.
    pub b: usize,
    /// Tokens L, without the registers.
    pub l: usize,
    /// Number of registers.
    pub n: usize,
    /// Width D of a token.
    pub d: usize,
    /// Place of the first register.
    pub first: usize,
    /// Distance from one register to the next.
    pub step: usize,
}

impl Dims {
    /// Content of each place of a sequence: (true, k) for register k, (false, l) for token l.
    fn places(self) -> Vec<(bool, usize)> {
        let registers: Vec<usize> = (0..self.n).map(|k| self.first + k * self.step).collect();
        let before = |place| registers.iter().filter(|&&r| r < place).count();
        let here = |place| match registers.iter().position(|&r| r == place) {
            Some(k) => (true, k),
            None => (false, place - before(place)),
        };
        (0..self.l + self.n).map(here).collect()
    }
}

/// Returns x (B, L, D) with the registers r, (n, D) or (B, n, D), among them: (B, L+n, D).
pub fn insert(dim: Dims, x: &[f64], r: &[f64]) -> Vec<f64> {
    let Dims { b, l, n, d, .. } = dim;
    let mut out = Vec::with_capacity(b * (l + n) * d);
    for b in 0..b {
        for (is_register, at) in dim.places() {
            let r_row = if r.len() == n * d { at } else { b * n + at };
            out.extend_from_slice(if is_register { &r[r_row * d..][..d] } else { &x[(b * l + at) * d..][..d] });
        }
    }
    out
}

/// Gradients of x and r in [`insert`] from dout (B, L+n, D); `shared`: all samples have the same r.
pub fn insert_backward(dim: Dims, dout: &[f64], shared: bool) -> (Vec<f64>, Vec<f64>) {
    let dr = extract(dim, dout);
    let width = dim.n * dim.d;
    let sum = (0..width).map(|i| dr.iter().skip(i).step_by(width).sum()).collect();
    (rest(dim, dout), if shared { sum } else { dr })
}

/// Returns the registers (B, n, D) of x (B, L+n, D).
pub fn extract(dim: Dims, x: &[f64]) -> Vec<f64> {
    take(dim, x, true)
}

/// Gradient dx of [`extract`] from dout (B, n, D).
pub fn extract_backward(dim: Dims, dout: &[f64]) -> Vec<f64> {
    insert(dim, &vec![0.0; dim.b * dim.l * dim.d], dout)
}

/// Returns the tokens (B, L, D) of x (B, L+n, D) without the registers.
pub fn rest(dim: Dims, x: &[f64]) -> Vec<f64> {
    take(dim, x, false)
}

/// Gradient dx of [`rest`] from dout (B, L, D).
pub fn rest_backward(dim: Dims, dout: &[f64]) -> Vec<f64> {
    insert(dim, dout, &vec![0.0; dim.b * dim.n * dim.d])
}

fn take(dim: Dims, x: &[f64], registers: bool) -> Vec<f64> {
    let rows = x.chunks_exact(dim.d).zip(dim.places().into_iter().cycle());
    rows.filter(|(_, (is_register, _))| *is_register == registers).flat_map(|(row, _)| row.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    const DIMS: [Dims; 4] = [
        Dims { b: 1, l: 1, n: 1, d: 1, first: 0, step: 1 },
        Dims { b: 2, l: 7, n: 2, d: 3, first: 2, step: 3 },
        Dims { b: 3, l: 2, n: 3, d: 2, first: 0, step: 1 },
        Dims { b: 2, l: 4, n: 1, d: 2, first: 4, step: 1 },
    ];

    #[test]
    fn by_hand() {
        let dim = Dims { b: 1, l: 5, n: 2, d: 1, first: 1, step: 2 };
        let out = insert(dim, &[1.0, 2.0, 3.0, 4.0, 5.0], &[-1.0, -2.0]);
        assert_eq!(out, [1.0, -1.0, 2.0, -2.0, 3.0, 4.0, 5.0]);
        assert_eq!((extract(dim, &out), rest(dim, &out)), (vec![-1.0, -2.0], vec![1.0, 2.0, 3.0, 4.0, 5.0]));
    }

    #[test]
    fn gradients() {
        for dim @ Dims { b, l, n, d, .. } in DIMS {
            let (x, dout) = (random(1, b * l * d), random(2, b * (l + n) * d));
            for shared in [true, false] {
                let r = random(3, if shared { n * d } else { b * n * d });
                let (dx, dr) = insert_backward(dim, &dout, shared || b == 1);
                check("insert dx", &x, &dx, |x| dot(&insert(dim, x, &r), &dout));
                check("insert dr", &r, &dr, |r| dot(&insert(dim, &x, r), &dout));
            }
            let (all, dr) = (random(4, b * (l + n) * d), random(5, b * n * d));
            check("extract dx", &all, &extract_backward(dim, &dr), |all| dot(&extract(dim, all), &dr));
            check("rest dx", &all, &rest_backward(dim, &x), |all| dot(&rest(dim, all), &x));
        }
    }
}

//! Chamfer distance between pairs of point sets (`ChamferDistanceL1` and `ChamferDistanceL2` of Point-MAE).
//!
//! ```text
//!   a (P, n, 3)   b (P, m, 3)   i(j): the point of a that is nearest to b_j, j(i) likewise; the first of equally near
//!   L2: mean_i |a_i − b_j(i)|² + mean_j |b_j − a_i(j)|²    L1: half of the same sum of |..| instead of |..|²
//!   The means are over the points of all pairs together. Gradients go through the nearest pairs; at distance 0 the
//!   gradient of |..| is 0.
//! ```

/// What is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Distances, halved.
    L1,
    /// Squared distances.
    L2,
}

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Pairs of sets P.
    pub p: usize,
    /// Points n of a set of a.
    pub n: usize,
    /// Points m of a set of b.
    pub m: usize,
}

/// The share of each point in the loss (P, n+m), first those of a, and the index (P, n+m) of its nearest point in the
/// other set.
pub fn forward(dim: Dims, form: Form, a: &[f64], b: &[f64]) -> (Vec<f64>, Vec<usize>) {
    let (mut shares, mut near) = (Vec::new(), Vec::new());
    for (a, b) in a.chunks(3 * dim.n).zip(b.chunks(3 * dim.m)) {
        for (own, other) in [(a, b), (b, a)] {
            let share = form.share(dim.p * own.len() / 3);
            for point in own.chunks(3) {
                let squared = |other: &[f64]| point.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
                let all = other.chunks(3).map(squared).enumerate();
                let (at, least) = all.fold((0, f64::INFINITY), |best, new| if new.1 < best.1 { new } else { best });
                near.push(at);
                shares.push(share * if form == Form::L1 { least.sqrt() } else { least });
            }
        }
    }
    (shares, near)
}

/// Gradients of a and b from those of the shares (P, n+m).
pub fn backward(dim: Dims, form: Form, a: &[f64], b: &[f64], dshares: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let near = forward(dim, form, a, b).1;
    let (mut da, mut db) = (vec![0.0; a.len()], vec![0.0; b.len()]);
    for (i, (at, dshare)) in near.iter().zip(dshares).enumerate() {
        let (p, k) = (i / (dim.n + dim.m), i % (dim.n + dim.m));
        let of_a = k < dim.n;
        let (i, j) = if of_a { (k, *at) } else { (*at, k - dim.n) };
        let (i, j) = (3 * (p * dim.n + i), 3 * (p * dim.m + j));
        let apart: Vec<f64> = a[i..i + 3].iter().zip(&b[j..j + 3]).map(|(a, b)| a - b).collect();
        let length = apart.iter().map(|v| v * v).sum::<f64>().sqrt();
        let slope = match form {
            Form::L2 => 2.0,
            Form::L1 if length > 0.0 => 1.0 / length,
            Form::L1 => 0.0,
        };
        for (axis, apart) in apart.into_iter().enumerate() {
            let moved = dshare * form.share(dim.p * if of_a { dim.n } else { dim.m }) * slope * apart;
            da[i + axis] += moved;
            db[j + axis] -= moved;
        }
    }
    (da, db)
}

impl Form {
    /// Factor on the distance of one of `points` points.
    fn share(self, points: usize) -> f64 {
        if self == Self::L1 { 0.5 / points as f64 } else { 1.0 / points as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn two_sets_by_hand() {
        let dim = Dims { p: 1, n: 2, m: 1 };
        let (a, b) = ([0.0, 0.0, 0.0, 3.0, 4.0, 0.0], [0.0, 0.0, 1.0]);
        assert_eq!(forward(dim, Form::L2, &a, &b), (vec![0.5, 13.0, 1.0], vec![0, 0, 0]));
        let shares = forward(dim, Form::L1, &a, &b).0;
        assert_eq!(shares, [0.25, 0.25 * 26f64.sqrt(), 0.5]);
    }

    #[test]
    fn a_distance_of_nothing_has_no_gradient() {
        let dim = Dims { p: 1, n: 1, m: 1 };
        assert_eq!(backward(dim, Form::L1, &[1.0; 3], &[1.0; 3], &[1.0; 2]), (vec![0.0; 3], vec![0.0; 3]));
    }

    #[test]
    fn gradients() {
        for form in [Form::L1, Form::L2] {
            for (p, n, m) in [(1, 1, 1), (2, 4, 3), (1, 3, 7)] {
                let dim = Dims { p, n, m };
                let (a, b, d) = (random(1, p * n * 3), random(2, p * m * 3), random(3, p * (n + m)));
                let (da, db) = backward(dim, form, &a, &b, &d);
                check("da", &a, &da, |a| dot(&forward(dim, form, a, &b).0, &d));
                check("db", &b, &db, |b| dot(&forward(dim, form, &a, b).0, &d));
            }
        }
    }
}

//! Principal components of rows of numbers: the directions in which they differ most.

use crate::error::{Error, Result};

/// Directions that are iterated beyond those that are wanted; they let the wanted ones settle sooner.
const MORE: usize = 6;

/// Iterations at most.
const ROUNDS: usize = 500;

/// The directions in which rows differ most.
#[derive(Debug, Clone, PartialEq)]
pub struct PrincipalComponents {
    /// Mean of the rows (D).
    pub mean: Vec<f64>,
    /// Directions of length 1, (count, D), that of the largest variance first. The largest number of each is positive.
    pub axes: Vec<Vec<f64>>,
    /// Variance along each, divided by the variance of the rows in all directions; 0 where all rows are equal.
    pub shares: Vec<f64>,
}

impl PrincipalComponents {
    /// The first `count` components of `rows` (N, `width`), by block power iteration from fixed directions: the same
    /// rows give the same components. sklearn's `PCA(count).fit(rows)` up to the signs.
    ///
    /// # Errors
    /// Rows that are no whole number of `width`; more components than numbers in a row; a number that is not finite.
    pub fn of(rows: &[f32], width: usize, count: usize) -> Result<Self> {
        let n = rows.len() / width.max(1);
        if n == 0 || n * width != rows.len() || count == 0 || count > width {
            let got = format!("{} numbers, {count} components of rows of {width}", rows.len());
            return Err(Error::argument(
                "rows",
                got,
                "whole rows, and as many components as a row has numbers at most",
            ));
        }
        if let Some(value) = rows.iter().find(|value| !value.is_finite()) {
            return Err(Error::argument("a number of the rows", value, "a finite one"));
        }
        let mut mean = vec![0.0; width];
        for row in rows.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        mean.iter_mut().for_each(|sum| *sum /= n as f64);
        let centered: Vec<f64> =
            rows.chunks_exact(width).flat_map(|row| row.iter().zip(&mean).map(|(v, m)| f64::from(*v) - m)).collect();
        let total: f64 = centered.iter().map(|v| v * v).sum();
        let block = (count + MORE).min(width);
        let mut axes = first_directions(width, block);
        let mut variances = vec![0.0; block];
        for _ in 0..ROUNDS {
            let mut next = axes.iter().map(|axis| covariance(&centered, width, axis)).collect::<Vec<_>>();
            let (mixed, found) = rotated(&axes, &mut next);
            let moved = variances.iter().zip(&found).take(count).map(|(a, b): (&f64, &f64)| (a - b).abs());
            let moved = moved.fold(0.0, f64::max);
            (axes, variances) = (mixed, found);
            if moved <= 1e-13 * total {
                break;
            }
        }
        axes.truncate(count);
        for axis in &mut axes {
            let largest = axis.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
            if largest < 0.0 {
                axis.iter_mut().for_each(|v| *v = -*v);
            }
        }
        let share = |variance: f64| if total > 0.0 { (variance / total).max(0.0) } else { 0.0 };
        let shares = variances.into_iter().take(count).map(share).collect();
        Ok(Self { mean, axes, shares })
    }

    /// A row (D) → its place along each component.
    pub fn place(&self, row: &[f32]) -> Vec<f64> {
        let along =
            |axis: &Vec<f64>| axis.iter().zip(row).zip(&self.mean).map(|((a, v), m)| a * (f64::from(*v) - m)).sum();
        self.axes.iter().map(along).collect()
    }
}

/// Independent directions of length 1, the same for the same sizes.
fn first_directions(width: usize, block: usize) -> Vec<Vec<f64>> {
    let value = |b: usize, i: usize| (((i + 1) * (2 * b + 3)) as f64 * 0.754_877_666).fract() - 0.5;
    let mut axes: Vec<Vec<f64>> = (0..block).map(|b| (0..width).map(|i| value(b, i)).collect()).collect();
    orthonormal(&mut axes);
    axes
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Xᵀ·(X·axis), rows X (N, D)
fn covariance(rows: &[f64], width: usize, axis: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        let along = dot(row, axis);
        out.iter_mut().zip(row).for_each(|(sum, v)| *sum += along * v);
    }
    out
}

/// Makes directions orthogonal and of length 1 (Gram-Schmidt, twice for its rounding). One that depends on those before
/// it gives way to a coordinate.
fn orthonormal(axes: &mut [Vec<f64>]) {
    for i in 0..axes.len() {
        let (before, rest) = axes.split_at_mut(i);
        let axis = &mut rest[0];
        let mut spare = 0..axis.len();
        loop {
            let size = dot(axis, axis).sqrt();
            for _ in 0..2 {
                for other in before.iter() {
                    let along = dot(axis, other);
                    axis.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
                }
            }
            let left = dot(axis, axis).sqrt();
            if left > 1e-12 * size && left > 0.0 {
                axis.iter_mut().for_each(|v| *v /= left);
                break;
            }
            let Some(at) = spare.next() else { break };
            axis.fill(0.0);
            axis[at] = 1.0;
        }
    }
}

/// Directions (block, D) and what the covariance makes of them → the directions within their span along which the
/// covariance acts as a factor, once more multiplied by it and made orthogonal, with these factors: largest first
/// (Rayleigh and Ritz).
fn rotated(axes: &[Vec<f64>], images: &mut [Vec<f64>]) -> (Vec<Vec<f64>>, Vec<f64>) {
    let block = axes.len();
    let small: Vec<f64> = (0..block * block).map(|i| dot(&axes[i / block], &images[i % block])).collect();
    let (values, vectors) = eigen(small, block);
    let mut order: Vec<usize> = (0..block).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
    let combined = |from: &[Vec<f64>], column: usize| -> Vec<f64> {
        let mut out = vec![0.0; from[0].len()];
        for (row, image) in from.iter().enumerate() {
            let weight = vectors[row * block + column];
            out.iter_mut().zip(image).for_each(|(sum, v)| *sum += weight * v);
        }
        out
    };
    let mut mixed: Vec<Vec<f64>> = order.iter().map(|&column| combined(images, column)).collect();
    orthonormal(&mut mixed);
    (mixed, order.iter().map(|&column| values[column]).collect())
}

/// Eigenvalues of a symmetric matrix (n, n), and its eigenvectors as columns (n, n): Jacobi's rotations.
fn eigen(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut v: Vec<f64> = (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect();
    for _ in 0..60 {
        let off: f64 = (0..n * n).filter(|i| i / n != i % n).map(|i| a[i] * a[i]).sum();
        let size: f64 = a.iter().map(|x| x * x).sum();
        if off <= 1e-30 * size {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p * n + q] == 0.0 {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                let turn = |m: &mut [f64], one: usize, other: usize| {
                    let (x, y) = (m[one], m[other]);
                    (m[one], m[other]) = (c * x - s * y, s * x + c * y);
                };
                for k in 0..n {
                    turn(&mut a, k * n + p, k * n + q);
                }
                for k in 0..n {
                    turn(&mut a, p * n + k, q * n + k);
                    turn(&mut v, k * n + p, k * n + q);
                }
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    /// Rows whose covariance is known: along fixed orthogonal directions with these deviations.
    fn rows(n: usize, width: usize, deviations: &[f64]) -> Vec<f32> {
        let axes = first_directions(width, deviations.len());
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let mut draw = || (0..12).map(|_| f64::from(random.next_u32()) / f64::from(u32::MAX)).sum::<f64>() - 6.0;
        let mut out = Vec::new();
        for _ in 0..n {
            let mut row = vec![3.0; width];
            for (axis, deviation) in axes.iter().zip(deviations) {
                let along = draw() * deviation;
                row.iter_mut().zip(axis).for_each(|(v, a)| *v += along * a);
            }
            out.extend(row.iter().map(|v| *v as f32));
        }
        out
    }

    #[test]
    fn components_are_eigenvectors_of_the_covariance() {
        for (n, width, count) in [(200, 16, 3), (7, 40, 2), (50, 3, 3), (64, 1, 1), (300, 33, 4)] {
            let rows = rows(n, width, &[4.0, 2.0, 1.9, 1.0, 0.5][..5.min(width)]);
            let found = PrincipalComponents::of(&rows, width, count).unwrap();
            let centered: Vec<f64> = rows
                .chunks(width)
                .flat_map(|row| row.iter().zip(&found.mean).map(|(v, m)| f64::from(*v) - m))
                .collect();
            let total: f64 = centered.iter().map(|v| v * v).sum();
            for (i, (axis, share)) in found.axes.iter().zip(&found.shares).enumerate() {
                let image = covariance(&centered, width, axis);
                let off = image.iter().zip(axis).map(|(m, a)| (m - share * total * a).abs()).fold(0.0, f64::max);
                assert!(off < 1e-5 * total, "{n}×{width}, component {i}: {off} of {total}");
                for (j, other) in found.axes.iter().enumerate() {
                    assert!((dot(axis, other) - f64::from(u8::from(i == j))).abs() < 1e-9);
                }
            }
            assert!(found.shares.windows(2).all(|pair| pair[0] >= pair[1] - 1e-9), "{:?}", found.shares);
            if count == width {
                assert!((found.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            }
            let places: Vec<Vec<f64>> = rows.chunks(width).map(|row| found.place(row)).collect();
            let spread: f64 = places.iter().map(|place| place[0] * place[0]).sum();
            assert!((spread / total - found.shares[0]).abs() < 1e-6);
            assert_eq!(found, PrincipalComponents::of(&rows, width, count).unwrap(), "the same rows, the same bits");
        }
    }

    #[test]
    fn rows_that_are_equal_have_no_direction() {
        let found = PrincipalComponents::of(&[2.0; 12], 3, 2).unwrap();
        assert_eq!((found.shares, found.mean), (vec![0.0, 0.0], vec![2.0; 3]));
        assert!(found.axes.iter().flatten().all(|v| v.is_finite()));
    }

    #[test]
    fn wrong_rows_are_named() {
        let error = |rows: &[f32], width, count| PrincipalComponents::of(rows, width, count).unwrap_err().to_string();
        assert!(error(&[0.0; 5], 2, 1).contains("5 numbers"));
        assert!(error(&[0.0; 4], 2, 3).contains("3 components of rows of 2"));
        assert!(error(&[], 2, 1).contains("0 numbers"));
        assert!(error(&[0.0, f32::NAN], 2, 1).contains("NaN"));
    }
}

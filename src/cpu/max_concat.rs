//! The maximum of a set beside each of its members (PointNet's global feature):
//! `y[r, k] = [max_k x[r, k], x[r, k]]` of x (R, K, C), y (R, K, 2C). The first maximum gets the gradient.

/// Returns y (R, K, 2C).
pub fn forward(k: usize, c: usize, x: &[f64]) -> Vec<f64> {
    let set = |set: &[f64]| {
        let most: Vec<f64> = best(k, c, set).into_iter().enumerate().map(|(j, at)| set[at * c + j]).collect();
        set.chunks(c).flat_map(|row| [&most, row].concat()).collect::<Vec<f64>>()
    };
    x.chunks(k * c).flat_map(set).collect()
}

/// Gradient dx (R, K, C) from dy (R, K, 2C).
pub fn backward(k: usize, c: usize, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut dx: Vec<f64> = dy.chunks(2 * c).flat_map(|row| &row[c..]).copied().collect();
    for (r, set) in x.chunks(k * c).enumerate() {
        for (j, at) in best(k, c, set).into_iter().enumerate() {
            dx[(r * k + at) * c + j] += (0..k).map(|i| dy[(r * k + i) * 2 * c + j]).sum::<f64>();
        }
    }
    dx
}

/// The member with the largest value of each channel.
fn best(k: usize, c: usize, set: &[f64]) -> Vec<usize> {
    let first = |j: usize| (1..k).fold(0, |best, i| if set[i * c + j] > set[best * c + j] { i } else { best });
    (0..c).map(first).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn ties_go_to_the_first() {
        assert_eq!(forward(2, 1, &[5.0, 5.0]), [5.0, 5.0, 5.0, 5.0]);
        assert_eq!(backward(2, 1, &[5.0, 5.0], &[1.0, 10.0, 2.0, 20.0]), [13.0, 20.0]);
    }

    #[test]
    fn gradients() {
        for (r, k, c) in [(1, 1, 1), (2, 4, 3), (3, 2, 5)] {
            let (x, dy) = (random(1, r * k * c), random(2, 2 * r * k * c));
            check("dx", &x, &backward(k, c, &x, &dy), |x| dot(&forward(k, c, x), &dy));
        }
    }
}

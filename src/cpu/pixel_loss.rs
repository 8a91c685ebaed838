//! Cross-entropy of the pixels of a label map, against scores of a smaller map that is interpolated (half pixels).
//!
//! ```text
//!   z (B, h, w, K)   labels (B, H, W); those not below K are ignored
//!   loss = Σ over pixels that are not ignored of ln Σ_k e^s_k − s_label, s = z resized to H×W; divided by all pixels,
//!          or by those that are not ignored + 2⁻²³
//! ```

use super::resample::{self, Form};

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Samples B.
    pub b: usize,
    /// Rows h and columns w of the scores.
    pub small: [usize; 2],
    /// Rows H and columns W of the labels.
    pub large: [usize; 2],
    /// Classes K.
    pub k: usize,
    /// Whether ignored pixels are left out of the divisor.
    pub labeled: bool,
}

impl Dims {
    fn scores(self) -> [usize; 4] {
        [self.b, self.small[0], self.small[1], self.k]
    }

    fn divisor(self, labels: &[u32]) -> f64 {
        match self.labeled {
            true => labels.iter().filter(|label| **label < self.k as u32).count() as f64 + 2f64.powi(-23),
            false => labels.len() as f64,
        }
    }
}

/// Softmax of a pixel's scores, and its loss where it has a label.
fn pixel(scores: &[f64], label: u32) -> (Vec<f64>, f64) {
    let most = scores.iter().copied().fold(f64::MIN, f64::max);
    let z: f64 = scores.iter().map(|s| (s - most).exp()).sum();
    let loss = scores.get(label as usize).map_or(0.0, |s| z.ln() + most - s);
    (scores.iter().map(|s| (s - most).exp() / z).collect(), loss)
}

/// Returns the loss.
pub fn forward(dim: Dims, z: &[f64], labels: &[u32]) -> f64 {
    let large = resample::forward(Form::HalfPixels, dim.scores(), dim.large, z);
    let sum: f64 = large.chunks(dim.k).zip(labels).map(|(scores, label)| pixel(scores, *label).1).sum();
    sum / dim.divisor(labels)
}

/// Returns dz for a gradient of 1.
pub fn backward(dim: Dims, z: &[f64], labels: &[u32]) -> Vec<f64> {
    let large = resample::forward(Form::HalfPixels, dim.scores(), dim.large, z);
    let divisor = dim.divisor(labels);
    let of = |(scores, label): (&[f64], &u32)| {
        let (mut grad, known) = (pixel(scores, *label).0, *label < dim.k as u32);
        if known {
            grad[*label as usize] -= 1.0;
        }
        grad.into_iter().map(|v| if known { v / divisor } else { 0.0 }).collect::<Vec<f64>>()
    };
    let grads: Vec<f64> = large.chunks(dim.k).zip(labels).flat_map(of).collect();
    resample::backward(Form::HalfPixels, dim.scores(), dim.large, &grads)
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, random};
    use super::*;

    #[test]
    fn by_hand() {
        let dim = Dims { b: 1, small: [1, 1], large: [1, 2], k: 2, labeled: false };
        assert!((forward(dim, &[3.0, 3.0], &[1, 255]) - 2f64.ln() / 2.0).abs() < 1e-12);
        assert_eq!(backward(dim, &[3.0, 3.0], &[1, 255]), [0.25, -0.25]);
        let dim = Dims { labeled: true, ..dim };
        assert_eq!(forward(dim, &[3.0, 3.0], &[255, 255]), 0.0);
        assert!((forward(dim, &[3.0, 3.0], &[1, 255]) - 2f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn gradients() {
        for (small, large, labeled) in [([2, 3], [4, 6], false), ([3, 2], [5, 7], true), ([4, 4], [2, 3], false)] {
            let dim = Dims { b: 2, small, large, k: 3, labeled };
            let z = random(1, 2 * small[0] * small[1] * 3);
            let labels: Vec<u32> = (0..2 * large[0] * large[1]).map(|i| [0, 2, 255, 1, 1][i % 5]).collect();
            check("dz", &z, &backward(dim, &z, &labels), |z| forward(dim, z, &labels));
        }
    }
}

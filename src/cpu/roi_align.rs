//! Pooling of boxes from the levels of a pyramid (`torchvision.ops.roi_align`, and the choice of levels of Lin et al.
//! 2017).
//!
//! ```text
//!   x_l (B, H_l, W_l, C)   rois (R, 5): sample, x0, y0, x1, y1   y (R, P, Q, C)
//!   level of a box: min + l for l = ⌊canonical level + log2(√area/canonical size + 1e-8)⌋, clamped to the levels
//!   y[r] = A_y·x_l·A_xᵀ, where row p of A_y is the mean of the weights of g samples
//!     start = y0·scale − ½, extent = (y1 − y0)·scale;  not aligned: without the ½, extent at least 1
//!     g = ⌈extent/P⌉, or a given number;  sample s = start + (p + (i + ½)/g)·extent/P
//!     weights of s: none outside [−1, H]; else s ← max(s, 0), and 1 − (s − ⌊s⌋) of ⌊s⌋, s − ⌊s⌋ of the next cell,
//!     but 1 of cell H − 1 from there on
//! ```

/// How boxes are pooled.
#[derive(Clone, Debug)]
pub struct Dims {
    /// Samples B.
    pub b: usize,
    /// Channels C.
    pub c: usize,
    /// Rows and columns of each level, and its cells per pixel.
    pub levels: Vec<([usize; 2], f64)>,
    /// Rows P and columns Q of the result.
    pub out: [usize; 2],
    /// Samples of a bin in each direction; 0 for one per cell.
    pub samples: usize,
    /// Whether the center of a pixel lies at ½.
    pub aligned: bool,
    /// Side of a box that belongs to the canonical level.
    pub canonical_size: f64,
    /// The canonical level.
    pub canonical_level: f64,
}

impl Dims {
    /// Index of the level of a box.
    pub fn level(&self, [x0, y0, x1, y1]: [f64; 4]) -> usize {
        let lowest = -self.levels[0].1.log2().round();
        let side = ((x1 - x0) * (y1 - y0)).max(0.0).sqrt();
        let level = (self.canonical_level + (side / self.canonical_size + 1e-8).log2()).floor() - lowest;
        level.clamp(0.0, self.levels.len() as f64 - 1.0) as usize
    }

    /// A (bins, cells) of one axis.
    fn weights(&self, (low, high): (f64, f64), scale: f64, bins: usize, cells: usize) -> Vec<Vec<f64>> {
        let start = if self.aligned { low * scale - 0.5 } else { low * scale };
        let extent = (high - low) * scale;
        let extent = if self.aligned { extent } else { extent.max(1.0) };
        let count = match self.samples {
            0 => (extent / bins as f64).ceil().max(0.0) as usize,
            given => given,
        };
        let mut a = vec![vec![0.0; cells]; bins];
        for (p, row) in a.iter_mut().enumerate() {
            for i in 0..count {
                let s = start + (p as f64 + (i as f64 + 0.5) / count as f64) * extent / bins as f64;
                if !(-1.0..=cells as f64).contains(&s) {
                    continue;
                }
                let s = s.max(0.0);
                let low = s.floor() as usize;
                if low + 1 >= cells {
                    row[cells - 1] += 1.0 / count as f64;
                } else {
                    row[low] += (1.0 - s.fract()) / count as f64;
                    row[low + 1] += s.fract() / count as f64;
                }
            }
        }
        a
    }

    /// Visits each product: (index of y, level, index of x, weight).
    fn terms(&self, rois: &[f64], mut each: impl FnMut(usize, usize, usize, f64)) {
        let [rows, cols] = self.out;
        for (r, roi) in rois.chunks(5).enumerate() {
            let level = self.level([roi[1], roi[2], roi[3], roi[4]]);
            let ([h, w], scale) = self.levels[level];
            let down = self.weights((roi[2], roi[4]), scale, rows, h);
            let across = self.weights((roi[1], roi[3]), scale, cols, w);
            for (p, down) in down.iter().enumerate() {
                for (q, across) in across.iter().enumerate() {
                    for (y, wy) in down.iter().enumerate().filter(|(_, w)| **w != 0.0) {
                        for (x, wx) in across.iter().enumerate().filter(|(_, w)| **w != 0.0) {
                            for c in 0..self.c {
                                let from = ((roi[0] as usize * h + y) * w + x) * self.c + c;
                                each(((r * rows + p) * cols + q) * self.c + c, level, from, wy * wx);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns y from the maps of all levels.
pub fn forward(dim: &Dims, maps: &[Vec<f64>], rois: &[f64]) -> Vec<f64> {
    let mut y = vec![0.0; rois.len() / 5 * dim.out[0] * dim.out[1] * dim.c];
    dim.terms(rois, |to, level, from, weight| y[to] += weight * maps[level][from]);
    y
}

/// Returns the gradients of the maps of all levels.
pub fn backward(dim: &Dims, rois: &[f64], dy: &[f64]) -> Vec<Vec<f64>> {
    let mut dx: Vec<Vec<f64>> = dim.levels.iter().map(|([h, w], _)| vec![0.0; dim.b * h * w * dim.c]).collect();
    dim.terms(rois, |to, level, from, weight| dx[level][from] += weight * dy[to]);
    dx
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    fn dims(levels: Vec<([usize; 2], f64)>, out: [usize; 2]) -> Dims {
        Dims { b: 2, c: 1, levels, out, samples: 0, aligned: true, canonical_size: 224.0, canonical_level: 4.0 }
    }

    #[test]
    fn by_hand() {
        let map: Vec<f64> = (0..16).map(f64::from).collect();
        let dim = Dims { b: 1, ..dims(vec![([4, 4], 0.5)], [2, 2]) };
        assert_eq!(forward(&dim, &[map], &[0.0, 1.0, 1.0, 9.0, 5.0]), [3.0, 4.75, 7.0, 8.75]);
    }

    #[test]
    fn levels_of_boxes() {
        let dim = dims(vec![([1, 1], 0.25), ([1, 1], 0.125), ([1, 1], 0.0625), ([1, 1], 0.03125)], [1, 1]);
        let level = |side: f64| dim.level([0.0, 0.0, side, side]);
        assert_eq!([10.0, 111.0, 113.0, 224.0, 447.0, 448.0, 4000.0, -3.0].map(level), [0, 0, 1, 2, 2, 3, 3, 0]);
        assert_eq!(dim.level([0.0, 0.0, -3.0, 5.0]), 0);
    }

    #[test]
    fn gradients() {
        let rois =
            [0.0, -3.0, 2.5, 9.1, 14.0, 1.0, 3.3, 3.1, 4.0, 3.9, 1.0, 5.0, 1.0, 4.0, 9.0, 0.0, 0.0, 2.0, 90.0, 70.0];
        for (samples, aligned) in [(0, true), (2, true), (0, false)] {
            let dim = Dims { samples, aligned, c: 2, ..dims(vec![([5, 7], 0.5), ([3, 4], 0.25)], [3, 2]) };
            let dim = Dims { canonical_size: 40.0, canonical_level: 2.0, ..dim };
            let maps = [random(1, 2 * 35 * 2), random(2, 2 * 12 * 2)];
            let dy = random(3, 4 * 6 * 2);
            let dx = backward(&dim, &rois, &dy);
            for level in 0..2 {
                let with = |x: &[f64]| {
                    let mut maps = maps.clone();
                    maps[level] = x.to_vec();
                    dot(&forward(&dim, &maps, &rois), &dy)
                };
                check("dx", &maps[level], &dx[level], with);
            }
        }
    }
}

//! Max pooling of maps (`F.max_pool2d`), with channels last.
//!
//! ```text
//!   x (B, H, W, C)   y (B, H', W', C),  H' = (H + 2p - k)/s + 1, W' likewise
//!   y = max of the window's cells inside the map; the first maximum in row-major order gets the gradient
//! ```

/// Sizes of the operands. Kernel, stride and padding are those of rows and columns.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Samples B.
    pub b: usize,
    /// Rows H of x.
    pub h: usize,
    /// Columns W of x.
    pub w: usize,
    /// Channels C.
    pub c: usize,
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Distance between windows.
    pub stride: [usize; 2],
    /// Rows above and below, and columns left and right, that count as less than any number.
    pub padding: [usize; 2],
}

/// Returns y (B, H', W', C), and for each of its elements the index of its maximum in x.
pub fn forward(dim: Dims, x: &[f64]) -> (Vec<f64>, Vec<usize>) {
    let [oh, ow] = dim.out();
    let best = |i: usize| {
        let (b, row, col, c) = (i / dim.c / ow / oh, i / dim.c / ow % oh, i / dim.c % ow, i % dim.c);
        let cells = (0..dim.kernel[0]).flat_map(|ky| (0..dim.kernel[1]).map(move |kx| (ky, kx)));
        let inside = cells.filter_map(|(ky, kx)| {
            let y = (row * dim.stride[0] + ky).checked_sub(dim.padding[0]).filter(|y| *y < dim.h)?;
            let x = (col * dim.stride[1] + kx).checked_sub(dim.padding[1]).filter(|x| *x < dim.w)?;
            Some(((b * dim.h + y) * dim.w + x) * dim.c + c)
        });
        inside.reduce(|best, at| if x[at] > x[best] { at } else { best }).unwrap_or_default()
    };
    let at: Vec<usize> = (0..dim.b * oh * ow * dim.c).map(best).collect();
    (at.iter().map(|&at| x[at]).collect(), at)
}

/// Gradient dx (B, H, W, C) from dy (B, H', W', C).
pub fn backward(dim: Dims, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut dx = vec![0.0; x.len()];
    forward(dim, x).1.into_iter().zip(dy).for_each(|(at, dy)| dx[at] += dy);
    dx
}

impl Dims {
    /// Rows H' and columns W' of y.
    pub fn out(self) -> [usize; 2] {
        let side = |n: usize, i: usize| (n + 2 * self.padding[i] - self.kernel[i]) / self.stride[i] + 1;
        [side(self.h, 0), side(self.w, 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn ties_go_to_the_first() {
        let dim = Dims { b: 1, h: 2, w: 2, c: 1, kernel: [2, 2], stride: [1, 1], padding: [0, 0] };
        assert_eq!(forward(dim, &[0.0, 5.0, 5.0, 5.0]), (vec![5.0], vec![1]));
        assert_eq!(backward(dim, &[-1.0; 4], &[3.0]), [3.0, 0.0, 0.0, 0.0]);
    }

    /// Neighbors differ by more than the step of the differences, so the maximum stays where it is.
    #[test]
    fn gradients() {
        for (h, w, kernel, stride, padding) in
            [(5, 4, [3, 3], [2, 2], [1, 1]), (1, 1, [3, 3], [2, 2], [1, 1]), (6, 7, [2, 3], [1, 2], [0, 1])]
        {
            let dim = Dims { b: 2, h, w, c: 3, kernel, stride, padding };
            let [oh, ow] = dim.out();
            let (x, dy) = (random(1, 2 * h * w * 3), random(2, 2 * oh * ow * 3));
            check("dx", &x, &backward(dim, &x, &dy), |x| dot(&forward(dim, x).0, &dy));
        }
    }
}

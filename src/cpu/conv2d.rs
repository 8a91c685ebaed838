//! Convolution of maps (`F.conv2d`), with channels last.
//!
//! ```text
//!   x (B, H, W, C)   w (O, C/G, kh, kw)   bias (O)   y (B, H', W', O)
//!   H' = (H + top + bottom - ey·(kh - 1) - 1)/sy + 1, W' likewise; channel o of y is in group o / (O/G)
//!   y[b,i,j,o] = bias[o] + Σ_{c, ky, kx} w[o,c,ky,kx]·x[b, i·sy + ey·ky - top, j·sx + ex·kx - left, c of the group]
//!   terms outside the map are 0;  dx, dw, dbias: each term w·x gives w·dy to dx, x·dy to dw, and dbias = Σ dy
//! ```

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Samples B.
    pub b: usize,
    /// Rows H of x.
    pub h: usize,
    /// Columns W of x.
    pub w: usize,
    /// Channels C of x.
    pub c: usize,
    /// Channels O of y.
    pub o: usize,
    /// Groups G, which divide C and O.
    pub groups: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Stride in rows and columns.
    pub stride: [usize; 2],
    /// Distance of neighboring taps in rows and columns.
    pub dilation: [usize; 2],
    /// Rows of zeros above and below, and columns of zeros left and right.
    pub padding: [usize; 4],
}

impl Default for Dims {
    /// One pixel of one channel, and a kernel of one tap.
    fn default() -> Self {
        let (kernel, stride, dilation) = ([1; 2], [1; 2], [1; 2]);
        Self { b: 1, h: 1, w: 1, c: 1, o: 1, groups: 1, kernel, stride, dilation, padding: [0; 4] }
    }
}

/// Gradients of [`forward`].
pub struct Grads {
    /// (B, H, W, C)
    pub dx: Vec<f64>,
    /// (O, C/G, kh, kw)
    pub dw: Vec<f64>,
    /// (O)
    pub dbias: Vec<f64>,
}

/// Returns y (B, H', W', O).
pub fn forward(dim: Dims, x: &[f64], w: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
    let [oh, ow] = dim.out();
    let mut y = vec![0.0; dim.b * oh * ow * dim.o];
    for (i, y) in y.iter_mut().enumerate() {
        *y = bias.map_or(0.0, |bias| bias[i % dim.o]);
        dim.terms(i, |xi, wi| *y += w[wi] * x[xi]);
    }
    y
}

/// Gradients of x, w and bias from dy (B, H', W', O).
pub fn backward(dim: Dims, x: &[f64], w: &[f64], dy: &[f64]) -> Grads {
    let mut g = Grads { dx: vec![0.0; x.len()], dw: vec![0.0; w.len()], dbias: vec![0.0; dim.o] };
    for (i, dy) in dy.iter().enumerate() {
        g.dbias[i % dim.o] += dy;
        dim.terms(i, |xi, wi| {
            g.dx[xi] += w[wi] * dy;
            g.dw[wi] += x[xi] * dy;
        });
    }
    g
}

/// The transposed convolution of `dim`, the gradient of [`forward`] with respect to x: y (B, H, W, C) from
/// x (B, H', W', O), w (O, C/G, kh, kw) and bias (C).
pub fn transposed(dim: Dims, x: &[f64], w: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
    let zeros = vec![0.0; dim.b * dim.h * dim.w * dim.c];
    let add = |(i, y): (usize, f64)| y + bias.map_or(0.0, |bias| bias[i % dim.c]);
    backward(dim, &zeros, w, x).dx.into_iter().enumerate().map(add).collect()
}

/// Gradients of [`transposed`] from dy (B, H, W, C).
pub fn transposed_backward(dim: Dims, x: &[f64], w: &[f64], dy: &[f64]) -> Grads {
    let dbias = (0..dim.c).map(|c| dy.iter().skip(c).step_by(dim.c).sum()).collect();
    Grads { dx: forward(dim, dy, w, None), dw: backward(dim, dy, w, x).dw, dbias }
}

impl Dims {
    /// Rows H' and columns W' of y.
    pub fn out(self) -> [usize; 2] {
        let [top, bottom, left, right] = self.padding;
        [
            (self.h + top + bottom - self.dilation[0] * (self.kernel[0] - 1) - 1) / self.stride[0] + 1,
            (self.w + left + right - self.dilation[1] * (self.kernel[1] - 1) - 1) / self.stride[1] + 1,
        ]
    }

    /// Calls `each` with the indices in x and w of every term of element `i` of y.
    fn terms(self, i: usize, mut each: impl FnMut(usize, usize)) {
        let [oh, ow] = self.out();
        let (b, row, col, o) = (i / self.o / ow / oh, i / self.o / ow % oh, i / self.o % ow, i % self.o);
        let ([kh, kw], cg) = (self.kernel, self.c / self.groups);
        let first = o / (self.o / self.groups) * cg;
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let (down, right) = (ky * self.dilation[0], kx * self.dilation[1]);
            let y = (row * self.stride[0] + down).checked_sub(self.padding[0]).filter(|y| *y < self.h);
            let x = (col * self.stride[1] + right).checked_sub(self.padding[2]).filter(|x| *x < self.w);
            let (Some(y), Some(x)) = (y, x) else { continue };
            for c in 0..cg {
                each(((b * self.h + y) * self.w + x) * self.c + first + c, ((o * cg + c) * kh + ky) * kw + kx);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    /// Two windows of a row, by hand: the second reads one column of padding.
    #[test]
    fn by_hand() {
        let dim = Dims { w: 3, kernel: [1, 2], stride: [1, 2], padding: [0, 0, 0, 1], ..Dims::default() };
        assert_eq!(forward(dim, &[1.0, 2.0, 3.0], &[10.0, 1.0], Some(&[0.5])), [12.5, 30.5]);
        // taps two columns apart
        let dim = Dims { w: 3, kernel: [1, 2], dilation: [1, 2], padding: [0, 0, 1, 0], ..Dims::default() };
        assert_eq!(forward(dim, &[1.0, 2.0, 3.0], &[10.0, 1.0], None), [2.0, 13.0]);
    }

    #[test]
    fn gradients() {
        let cases = [
            ([1, 1, 1, 1, 1], 1, [1, 1], [1, 1], [0; 4]),
            ([2, 4, 5, 3, 2], 1, [3, 3], [1, 1], [1; 4]),
            ([1, 5, 4, 4, 6], 2, [3, 2], [2, 1], [0, 1, 1, 0]),
            ([2, 3, 2, 3, 3], 3, [5, 5], [2, 3], [2; 4]), // depthwise, a kernel larger than the map
            ([1, 7, 6, 2, 3], 1, [2, 2], [4, 4], [0; 4]), // rows and columns that no window reads
        ];
        let plain = cases.map(|case| (case, [1; 2]));
        let dilated = [(([2, 6, 5, 4, 6], 2, [3, 2], [1, 1], [2, 1, 3, 3]), [2, 3])];
        for (([b, h, w, c, o], groups, kernel, stride, padding), dilation) in plain.into_iter().chain(dilated) {
            let dim = Dims { b, h, w, c, o, groups, kernel, stride, dilation, padding };
            let [oh, ow] = dim.out();
            let (x, weight) = (random(1, b * h * w * c), random(2, o * c / groups * kernel[0] * kernel[1]));
            let (bias, dy) = (random(3, o), random(4, b * oh * ow * o));
            let loss = |x: &[f64], w: &[f64], bias: &[f64]| dot(&forward(dim, x, w, Some(bias)), &dy);
            let g = backward(dim, &x, &weight, &dy);
            check("dx", &x, &g.dx, |x| loss(x, &weight, &bias));
            check("dw", &weight, &g.dw, |w| loss(&x, w, &bias));
            check("dbias", &bias, &g.dbias, |bias| loss(&x, &weight, bias));

            let (x, dy, bias) = (dy, x, random(5, c));
            let loss = |x: &[f64], w: &[f64], bias: &[f64]| dot(&transposed(dim, x, w, Some(bias)), &dy);
            let g = transposed_backward(dim, &x, &weight, &dy);
            check("transposed dx", &x, &g.dx, |x| loss(x, &weight, &bias));
            check("transposed dw", &weight, &g.dw, |w| loss(&x, w, &bias));
            check("transposed dbias", &bias, &g.dbias, |bias| loss(&x, &weight, bias));
        }
    }
}

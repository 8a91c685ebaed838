//! The sizes of a convolution, checked.

use super::options::Conv2dOptions;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Sizes of maps, kernel, stride and padding. The arrays hold rows, then columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub b: usize,
    /// Of x.
    pub size: [usize; 2],
    /// Of y.
    pub out: [usize; 2],
    pub c: usize,
    pub o: usize,
    pub groups: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Zeros before the first row and column.
    pub before: [usize; 2],
}

/// Most terms of a sum over taps and channels, so that llvmpipe, which ends loops early, computes every product.
const TERMS: usize = 32_768;

impl Shape {
    pub fn new(x: &Tensor, w: &Tensor, options: &Conv2dOptions<'_>) -> Result<Self> {
        let &Conv2dOptions { bias, stride, padding: [top, bottom, left, right], groups } = options;
        let [b, h, width, c] = x.dims("conv2d: x")?;
        let [o, cg, kh, kw] = w.dims("conv2d: w")?;
        if groups == 0 || o % groups != 0 || cg * groups != c {
            let got = format!("{:?} for {c} channels and {groups} groups", w.shape());
            return Err(wrong("w", got, "(O, C/G, kh, kw), where G divides C and O"));
        }
        if x.is_empty() || w.is_empty() {
            let got = format!("x {:?}, w {:?}", x.shape(), w.shape());
            return Err(wrong("sizes", got, "nothing empty"));
        }
        if let Some(bias) = bias {
            bias.data.expect_shape("conv2d: bias", &[o])?;
        }
        if stride.iter().any(|stride| !(1..=4).contains(stride)) {
            return Err(wrong("stride", format!("{stride:?}"), "1 to 4"));
        }
        let padded = [h + top + bottom, width + left + right];
        if padded[0] < kh || padded[1] < kw {
            let expected = format!("at most {}×{}, the padded map", padded[0], padded[1]);
            return Err(wrong("kernel", format!("{kh}×{kw}"), expected));
        }
        if kh * kw * cg.max(o / groups) > TERMS {
            let got = format!("{kh}×{kw} taps of {} channels", cg.max(o / groups));
            return Err(wrong("terms of a sum", got, format!("at most {TERMS}")));
        }
        let out = [(padded[0] - kh) / stride[0] + 1, (padded[1] - kw) / stride[1] + 1];
        let (size, kernel, before) = ([h, width], [kh, kw], [top, left]);
        Ok(Self { b, size, out, c, o, groups, kernel, stride, before })
    }

    /// Rows of y.
    pub fn rows(&self) -> usize {
        self.out[0]
    }
    /// Columns of y.
    pub fn cols(&self) -> usize {
        self.out[1]
    }
    /// Pixels of y in the batch.
    pub fn pixels(&self) -> usize {
        self.b * self.out[0] * self.out[1]
    }
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
    /// Whether it is a linear layer of every pixel.
    pub fn is_linear(&self) -> bool {
        self.groups == 1 && self.kernel == [1, 1] && self.stride == [1, 1] && self.size == self.out
    }
    /// Whether the depthwise kernels compute it.
    pub fn is_depthwise(&self) -> bool {
        let [kh, kw] = self.kernel;
        let square = kh == kw && self.stride[0] == self.stride[1];
        square && [3, 5, 7].contains(&kh) && self.groups == self.c && self.o == self.c
    }

    /// The phases of x along one axis, rows (0) or columns (1): its pixels by their rest of the division by the stride.
    pub fn phases(&self, axis: usize) -> Vec<Phase> {
        let (stride, before, kernel) = (self.stride[axis], self.before[axis], self.kernel[axis]);
        let phase = |first: usize| {
            let tap = (first + before) % stride;
            let taps = kernel.saturating_sub(tap).div_ceil(stride);
            let count = (self.size[axis] - first).div_ceil(stride);
            Phase { first, count, tap, taps, shift: (first + before - tap) / stride }
        };
        (0..stride.min(self.size[axis])).map(phase).collect()
    }
}

/// Pixels first, first + stride, … of x along one axis. Pixel i of them gets gradients from the pixels i + shift − t of
/// y through the taps tap + stride·t, t < taps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase {
    pub first: usize,
    pub count: usize,
    pub tap: usize,
    pub taps: usize,
    pub shift: usize,
}

/// An error that names an argument of the operator.
fn wrong(what: &str, got: impl ToString, expected: impl ToString) -> Error {
    Error::argument(format!("conv2d: {what}"), got.to_string(), expected.to_string())
}

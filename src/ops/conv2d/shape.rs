//! The sizes of a convolution, checked.

use super::options::Conv2dOptions;
use crate::error::{Error, Result};
use crate::gpu::DType;

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
    pub dilation: [usize; 2],
    /// Zeros before the first row and column.
    pub before: [usize; 2],
}

/// Most terms of a sum over taps and channels, so that llvmpipe, which ends loops early, computes every product.
const TERMS: usize = 40_960;
/// Largest stride. dx is a product for each rest of a pixel by the strides.
const STRIDE: usize = 8;
/// The same of one channel a group, for which each stride is another kernel.
const DEPTHWISE_STRIDE: usize = 4;
/// Largest dilation.
const DILATION: usize = 1024;

/// Rows and columns from the first tap of a kernel to the last.
pub(super) fn extent(kernel: [usize; 2], dilation: [usize; 2]) -> [usize; 2] {
    [0, 1].map(|i| dilation[i] * (kernel[i] - 1) + 1)
}

impl Shape {
    /// The convolution `op` of a map x (B, H, W, C) with w (O, C/G, kh, kw).
    pub fn new(
        op: &str, [b, h, width, c]: [usize; 4], [o, cg, kh, kw]: [usize; 4], options: &Conv2dOptions<'_>,
    ) -> Result<Self> {
        let &Conv2dOptions { stride, dilation, padding: [top, bottom, left, right], groups, .. } = options;
        let wrong = |what: &str, got: String, expected: String| Error::argument(format!("{op}: {what}"), got, expected);
        if groups == 0 || o % groups != 0 || cg * groups != c {
            let got = format!("{:?} for {c} channels and {groups} groups", [o, cg, kh, kw]);
            return Err(wrong("w", got, "(O, C/G, kh, kw), where G divides C and O".into()));
        }
        if b * h * width * c * o * kh * kw == 0 {
            let got = format!("map {:?}, w {:?}", [b, h, width, c], [o, cg, kh, kw]);
            return Err(wrong("sizes", got, "nothing empty".into()));
        }
        let most = if groups == c && o == c { DEPTHWISE_STRIDE } else { STRIDE };
        if stride.iter().any(|stride| !(1..=most).contains(stride)) {
            return Err(wrong("stride", format!("{stride:?}"), format!("1 to {most}")));
        }
        if dilation != [1; 2] && (stride != [1; 2] || dilation.iter().any(|each| !(1..=DILATION).contains(each))) {
            let got = format!("{dilation:?} with the stride {stride:?}");
            return Err(wrong("dilation", got, format!("1 to {DILATION}, and more than 1 without a stride only")));
        }
        let padded = [h + top + bottom, width + left + right];
        let extent = extent([kh, kw], dilation);
        if padded[0] < extent[0] || padded[1] < extent[1] {
            let expected = format!("at most {}×{}, the padded map", padded[0], padded[1]);
            return Err(wrong("kernel", format!("{}×{}", extent[0], extent[1]), expected));
        }
        // of y, and of dx, whose pixels see the taps of one phase
        let seen = kh.div_ceil(stride[0]) * kw.div_ceil(stride[1]);
        if let Some((taps, channels)) = [(kh * kw, cg), (seen, o / groups)].into_iter().find(|(a, b)| a * b > TERMS) {
            return Err(wrong(
                "terms of a sum",
                format!("{taps} taps of {channels} channels"),
                format!("at most {TERMS}"),
            ));
        }
        let out = [0, 1].map(|i| (padded[i] - extent[i]) / stride[i] + 1);
        let (size, kernel, before) = ([h, width], [kh, kw], [top, left]);
        Ok(Self { b, size, out, c, o, groups, kernel, stride, dilation, before })
    }

    /// An error unless kernels can store maps as these types: that of x, and that of y.
    pub fn check_stored(&self, op: &str, [x, y]: [DType; 2]) -> Result<()> {
        let channels =
            [self.c, self.o].map(|channels| if self.is_depthwise() { 2 * channels } else { channels / self.groups });
        for (what, dtype, channels) in [("x", x, channels[0]), ("y", y, channels[1])] {
            if dtype == DType::F16 && channels % 4 != 0 {
                let got = format!("{} and {} channels in {} groups", self.c, self.o, self.groups);
                let expected = "multiples of 4 in a group, or an even number in a depthwise convolution";
                return Err(Error::argument(format!("{op}: {what} in f16"), got, expected));
            }
        }
        Ok(())
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
        let square = kh == kw && self.stride[0] == self.stride[1] && self.dilation[0] == self.dilation[1];
        square && [3, 5, 7].contains(&kh) && self.groups == self.c && self.o == self.c
    }
}

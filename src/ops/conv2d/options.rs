//! Settings of a convolution.

use crate::gpu::DType;
use crate::tape::Var;

/// Bias, stride, dilation, padding and groups of a convolution, and the element type of its result. By default there is
/// no bias, stride and dilation are 1, no padding, one group, and f32.
#[derive(Debug, Clone, Copy)]
pub struct Conv2dOptions<'a> {
    /// Added to every pixel: (O).
    pub bias: Option<&'a Var>,
    /// Stride in rows and in columns, 1 to 8 each, or to 4 with one channel a group.
    pub stride: [usize; 2],
    /// Distance of neighboring taps in rows and in columns. More than 1 is for a stride of 1.
    pub dilation: [usize; 2],
    /// Rows of zeros above and below, and columns of zeros left and right. TensorFlow's "same" padding has one more
    /// below than above for some sizes ([`same_padding`]).
    pub padding: [usize; 4],
    /// Groups G, which divide C and O. Output channel o reads the channels of group ⌊o·G/O⌋ only.
    pub groups: usize,
    /// Element type of the result. f16 is for operators that read f16.
    pub dtype: DType,
}

impl Default for Conv2dOptions<'_> {
    fn default() -> Self {
        Self { bias: None, stride: [1; 2], dilation: [1; 2], padding: [0; 4], groups: 1, dtype: DType::F32 }
    }
}

/// TensorFlow's "same" padding for a map of `size` rows and columns, so that a result has ⌈size / stride⌉: half of what
/// is missing before, and the rest behind.
pub fn same_padding(size: [usize; 2], kernel: [usize; 2], stride: [usize; 2]) -> [usize; 4] {
    let total = |i: usize| {
        let read = (size[i].div_ceil(stride[i].max(1)).max(1) - 1) * stride[i] + kernel[i];
        read.saturating_sub(size[i])
    };
    let (rows, cols) = (total(0), total(1));
    [rows / 2, rows - rows / 2, cols / 2, cols - cols / 2]
}

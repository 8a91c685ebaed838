//! Element types of buffers: PyTorch's `torch.dtype`.

use std::fmt;

/// The type of a buffer's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DType {
    /// 32-bit floats: `torch.float32`.
    #[default]
    F32,
    /// 16-bit floats, two in a word: `torch.float16`.
    F16,
    /// 32-bit unsigned integers: indices, and all other data that is not float.
    U32,
}

impl DType {
    /// f16 if `on`, else f32.
    pub fn f16_if(on: bool) -> Self {
        if on { Self::F16 } else { Self::F32 }
    }

    /// Bytes of an element: `dtype.itemsize`.
    pub fn size(self) -> u64 {
        if self == Self::F16 { 2 } else { 4 }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::U32 => "u32",
        })
    }
}

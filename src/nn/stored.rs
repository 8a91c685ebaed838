//! What mixed precision stores as f16.

use crate::gpu::{DType, Precision};
use crate::tape::Recorder;

/// The type in which a result is stored that nothing but an operand of a matrix product, an attention or a Mamba branch
/// is made of: f16 in mixed precision, which rounds such operands anyway, where `columns` is a multiple of 4, as the
/// kernels that read f16 need it; otherwise f32. Sums, the residual stream, statistics and parameters stay f32. PyTorch
/// decides the same by the lists of `torch.autocast`.
pub fn stored(r: &Recorder, columns: usize) -> DType {
    DType::f16_if(r.precision() == Precision::Mixed && columns.is_multiple_of(4))
}

//! What mixed precision stores as f16.

use crate::gpu::{DType, Precision};
use crate::tape::Recorder;

/// The type in which a result of a product, a convolution or a norm is stored, where what reads it rounds it anyway or
/// reads f16: f16 in mixed precision, where `columns` is a multiple of 4, as the kernels that read f16 need it; else
/// f32. PyTorch decides the same by the lists of `torch.autocast`:
///
/// - Between products: an operand of a matrix product, an attention or a Mamba branch is f16.
/// - On maps: what a convolution writes is f16, and what follows it keeps its type, as it does in PyTorch: batch norm,
///   activation, pooling, gate, and a sum of two such maps. So the residual stream of a ResNet is f16. A sum with a
///   summand in f32 is f32: the stream of a ConvNeXt, which a layer norm starts and layer scale adds to, and that of
///   the transformer and Mamba layers.
/// - Statistics, sums over many terms, layer norms whose result is added to, parameters and losses are f32.
///
/// Gradients have the types of what they are gradients of. The loss scale keeps them inside of f16.
pub fn stored(r: &Recorder, columns: usize) -> DType {
    DType::f16_if(r.precision() == Precision::Mixed && columns.is_multiple_of(4))
}

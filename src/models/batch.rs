//! What a pretraining step reads.

use crate::tensor::Tensor;

/// A batch of images with some patches hidden.
#[derive(Debug, Clone)]
pub struct Batch {
    /// All patches in conv order (channel, y, x), normalised: (B, L, P·P·3).
    pub patches: Tensor,
    /// Raster positions of the visible tokens, in the order in which the encoder reads them: u32 (B, V).
    pub visible: Tensor,
    /// Position of each token among the visible ones, or u32::MAX: (B, L).
    pub inverse: Tensor,
    /// 1 where the loss counts: (B, L).
    pub mask: Tensor,
    /// 1 / Σ mask.
    pub scale: f32,
}

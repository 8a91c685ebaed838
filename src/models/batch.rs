//! What a pretraining step reads.

use crate::tensor::Tensor;

/// A batch of images with some patches hidden, or of two crops of each.
#[derive(Debug, Clone)]
pub struct MaskedBatch {
    /// All patches in conv order (channel, y, x), normalized: (B, L, P·P·3).
    pub patches: Tensor,
    /// Raster positions of the visible tokens, in the order in which the encoder reads them: u32 (B, V).
    pub visible: Tensor,
    /// Position of each token among the visible ones, or u32::MAX: (B, L).
    pub inverse: Tensor,
    /// 1 where the loss counts: (B, L).
    pub mask: Tensor,
    /// 1 / Σ mask.
    pub scale: f32,
    /// For losses of the counted tokens alone: their raster positions, ascending, u32 (B, M), and the position of each token
    /// among them, or u32::MAX (B, L).
    pub counted: Option<(Tensor, Tensor)>,
    /// The patches of a second crop of each image.
    pub second: Option<Tensor>,
}

//! The input of a pretraining step.

use crate::tensor::Tensor;

/// A batch of images with some patches hidden, or of two crops of each image.
#[derive(Debug, Clone)]
pub struct MaskedBatch {
    /// All patches (B, L, P·P·3): normalized pixels, in the order of a convolution weight (channel, y, x).
    pub patches: Tensor,
    /// The visible tokens of each image by raster position, u32 (B, V), in the order in which the encoder reads them.
    /// MAE's `ids_keep`.
    pub visible: Tensor,
    /// For each token by raster position, its place among the visible ones, or u32::MAX if it is hidden: (B, L).
    pub inverse: Tensor,
    /// 1 where the loss of a token counts, else 0: (B, L).
    pub mask: Tensor,
    /// 1 / Σ mask.
    pub scale: f32,
    /// For losses that compute nothing but the counted tokens: their raster positions, ascending, u32 (B, M), and for
    /// each token its place among them, or u32::MAX (B, L).
    pub counted: Option<(Tensor, Tensor)>,
    /// The patches of a second crop of each image, as `patches`.
    pub second: Option<Tensor>,
}

//! The options of an attention.

use super::kernels::AttentionMask;
use super::regions::Regions;

/// Number of heads, and which tokens see each other.
#[derive(Debug, Clone, Copy)]
pub struct AttentionOptions<'a> {
    /// Number of heads H. The size of a head, C / H, is at most [`MAX_HEAD`](super::MAX_HEAD).
    pub heads: usize,
    /// Which keys a query sees.
    pub mask: AttentionMask,
    /// The region of each token; every mask but [`AttentionMask::Full`] needs it.
    pub regions: Option<&'a Regions>,
}

impl AttentionOptions<'_> {
    /// Options with this number of heads and without a mask.
    pub const fn heads(heads: usize) -> Self {
        Self { heads, mask: AttentionMask::Full, regions: None }
    }
}

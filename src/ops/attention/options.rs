//! What an attention is told besides its operands.

use super::kernels::AttentionMask;
use super::regions::Regions;

/// Heads of an attention, and which tokens see each other.
#[derive(Debug, Clone, Copy)]
pub struct AttentionOptions<'a> {
    /// Number of heads H. The size of a head, C / H, is at most [`MAX_HEAD`](super::MAX_HEAD).
    pub heads: usize,
    /// Which keys a query sees.
    pub mask: AttentionMask,
    /// The region of each token, which a mask compares.
    pub regions: Option<&'a Regions>,
}

impl AttentionOptions<'_> {
    /// So many heads, and every token sees all.
    pub const fn heads(heads: usize) -> Self {
        Self { heads, mask: AttentionMask::Full, regions: None }
    }
}

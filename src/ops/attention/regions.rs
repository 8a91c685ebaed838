//! Regions of tokens, which attention masks compare: one number per token in place of an (L, L) mask.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::tensor::Tensor;

/// Tokens that share one (least, largest) pair in a region table. By the pairs a kernel skips tiles of keys that none
/// of its queries sees.
const BLOCK: usize = 8;

/// A region for each of L tokens, which [`AttentionMask`](super::AttentionMask) compares. Queries and keys, and all
/// samples, have the same regions. Regions need not be sorted.
#[derive(Debug, Clone)]
pub struct Regions {
    /// The region of each token (L), then (least, largest) of every eight tokens.
    pub(super) table: Tensor,
    pub(super) len: usize,
}

impl Regions {
    /// A table of these regions, one per token.
    pub fn new(g: &Gpu, regions: &[u32]) -> Result<Self> {
        if regions.is_empty() {
            return Err(Error::argument("attention: regions", "no token", "at least one"));
        }
        let bounds = regions.chunks(BLOCK).flat_map(|block| {
            let (least, largest) = block.iter().fold((u32::MAX, 0), |(lo, hi), &r| (r.min(lo), r.max(hi)));
            [least, largest]
        });
        let table: Vec<u32> = regions.iter().copied().chain(bounds).collect();
        Ok(Self { table: Tensor::from_indices(g, &[table.len()], &table)?, len: regions.len() })
    }

    /// The row of each token in an h×w grid of tokens in raster order: the regions of MAP's decoder.
    pub fn rows(g: &Gpu, h: usize, w: usize) -> Result<Self> {
        Self::new(g, &(0..h * w).map(|t| (t / w) as u32).collect::<Vec<_>>())
    }

    /// The index of each of `l` tokens. [`RegionCausal`](super::AttentionMask::RegionCausal) is then the usual causal
    /// mask.
    pub fn tokens(g: &Gpu, l: usize) -> Result<Self> {
        Self::new(g, &(0..l as u32).collect::<Vec<_>>())
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always false: a table has at least one token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

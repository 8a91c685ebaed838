//! The region of each token, which masks compare.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::tensor::Tensor;

/// Tokens that share one (least, largest) pair in a region table.
const BLOCK: usize = 8;

/// The region of each token, the same for queries and keys and for all samples. Regions may come in any order.
#[derive(Debug, Clone)]
pub struct Regions {
    /// The regions (L), then (least, largest) of every eight tokens.
    pub(super) table: Tensor,
    pub(super) len: usize,
}

impl Regions {
    /// A table with one region per token.
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

    /// Regions = rows of an h×w grid of tokens in raster order.
    pub fn rows(g: &Gpu, h: usize, w: usize) -> Result<Self> {
        Self::new(g, &(0..h * w).map(|t| (t / w) as u32).collect::<Vec<_>>())
    }

    /// Every token its own region.
    pub fn tokens(g: &Gpu, l: usize) -> Result<Self> {
        Self::new(g, &(0..l as u32).collect::<Vec<_>>())
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a table has at least one token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

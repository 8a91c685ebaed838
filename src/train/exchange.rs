//! Several processes that train one model: which micro-batches of a step each of them takes, and what a step asks of
//! the others. The processes themselves are in `run/world`, because a browser has none.

use std::fmt;

use crate::error::{Error, Result};
use crate::gpu::Readback;
use crate::tensor::Tensor;

/// The place of a process among those that train together: PyTorch's rank and world size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub ranks: usize,
}

impl Place {
    /// The only process.
    pub const ALL: Self = Self { rank: 0, ranks: 1 };

    /// How many of `parts` micro-batches each process takes. Those of rank r follow those of rank r − 1.
    pub fn of(self, parts: usize) -> usize {
        parts / self.ranks.max(1)
    }

    /// The slice of `all` that belongs to this process, where `all` is as long for each.
    pub fn slice<T>(self, all: &[T]) -> &[T] {
        let each = self.of(all.len());
        &all[self.rank * each..][..each]
    }

    /// Refuses a number of micro-batches that the processes cannot share evenly.
    pub fn expect(self, parts: usize) -> Result<()> {
        match self.ranks > 0 && self.rank < self.ranks && parts.is_multiple_of(self.ranks) {
            true => Ok(()),
            false => Err(Error::argument("accum_iter", parts, format!("a multiple of the {} processes", self.ranks))),
        }
    }
}

/// What a step asks of the other processes. Every process calls the same functions in the same order.
pub trait Exchange: fmt::Debug {
    /// Replaces each tensor by its sum over all processes, in the order of [`middle`](super::sums::middle).
    fn sum(&mut self, tensors: &[Tensor]) -> Result<()>;

    /// The sum of the processes' numbers in the same order, as the adapter adds.
    fn total(&self, numbers: &[f32]) -> f32;

    /// The lists of all processes, by rank. They may be of any lengths.
    fn gather(&mut self, mine: &[Vec<u8>]) -> Result<Vec<Vec<Vec<u8>>>>;

    /// Waits for bytes from the GPU.
    fn wait(&mut self, read: Readback) -> Result<Vec<u8>>;
}

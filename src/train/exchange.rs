//! What a training step asks of the other processes that share it. The processes themselves are in `run/world`, because
//! a browser has none.

use std::fmt;

use crate::data::Place;
use crate::error::{Error, Result};
use crate::gpu::Readback;
use crate::tensor::Tensor;

/// Refuses a number of micro-batches that the processes cannot share evenly.
///
/// # Errors
/// As it says.
pub fn expect_shared(place: Place, parts: usize) -> Result<()> {
    match place.rank < place.ranks && parts.is_multiple_of(place.ranks) {
        true => Ok(()),
        false => Err(Error::argument("accum_iter", parts, format!("a multiple of the {} ranks", place.ranks))),
    }
}

/// What a step asks of the other processes. Every process calls the same functions in the same order.
pub trait Exchange: fmt::Debug {
    /// Begins to replace a tensor by its sum over all processes, in the order of [`middle`](super::sums::middle), once
    /// the GPU has computed what was submitted so far. Nothing may use it until [`Exchange::complete`].
    fn begin(&mut self, tensor: &Tensor) -> Result<()>;

    /// Waits until all that was begun is in its place.
    fn complete(&mut self) -> Result<()>;

    /// The sum of the processes' numbers in the same order, as the adapter adds.
    fn total(&self, numbers: &[f32]) -> f32;

    /// The lists of all processes, by rank. They may be of any lengths.
    fn gather(&mut self, mine: &[Vec<u8>]) -> Result<Vec<Vec<Vec<u8>>>>;

    /// Waits for bytes from the GPU.
    fn wait(&mut self, read: Readback) -> Result<Vec<u8>>;
}

//! Rows that each micro-batch of a step leaves for the end of the step, such as the keys of contrastive pretraining.

use crate::data::Place;
use crate::error::Result;
use crate::gpu::{Gpu, Program};
use crate::tape::Recorder;
use crate::tensor::Tensor;

/// The rows of the micro-batches, one after the other.
#[derive(Debug)]
pub struct Collected {
    mine: Tensor,
    all: Tensor,
    /// Copies the rows of micro-batch k of this process to their place.
    copies: Vec<Program>,
}

impl Collected {
    /// A place for `rows` (B, D) of each of `parts` micro-batches, of which this process is at `place`.
    pub fn new(g: &Gpu, rows: &Tensor, place: Place, parts: usize) -> Result<Self> {
        let [count, width] = rows.dims("collected rows")?;
        let rows_of = |parts: usize| Tensor::input("collected rows", &[parts * count, width]);
        let mine = rows_of(place.of(parts));
        let all = if place.ranks == 1 { mine.clone() } else { rows_of(parts) };
        let copy = |part: usize| {
            let mut r = Recorder::inference(g);
            mine.range(part * count * width, &[count, width])?.copy_from(&mut r, rows)?;
            Program::new(r.finish())
        };
        let copies = if g.is_dry() { Vec::new() } else { (0..place.of(parts)).map(copy).collect::<Result<_>>()? };
        Ok(Self { mine, all, copies })
    }

    /// Those of this process.
    pub fn mine(&self) -> &Tensor {
        &self.mine
    }

    /// Those of all processes, in the order of the micro-batches.
    pub fn all(&self) -> &Tensor {
        &self.all
    }

    /// Copies the rows of micro-batch `part` of this process.
    pub fn add(&self, part: usize) -> Result<()> {
        self.copies.get(part).map_or(Ok(()), Program::run)
    }
}

//! The statistics of batch norms in a step of several micro-batches. Each micro-batch has its own; they are folded into
//! the running ones in the order of the micro-batches, whichever process computed them.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Program, Readback};
use crate::nn::{Observed, Params};
use crate::ops::ema::ema;
use crate::tape::Recorder;
use crate::tensor::Tensor;

/// What the micro-batches of a step saw.
#[derive(Debug)]
pub struct Statistics {
    observed: Vec<(Observed, Tensor)>,
    /// Folds what the latest micro-batch saw into the running statistics; built at the first use.
    program: Option<Program>,
    g: Gpu,
    /// Of micro-batches that are to be exchanged: the copies that are on their way to the host.
    reads: Vec<Readback>,
}

impl Statistics {
    /// The statistics of a model; none where it has no batch norms.
    pub fn new(g: &Gpu, params: &Params) -> Result<Self> {
        let mut statistics = Self { observed: Vec::new(), program: None, g: g.clone(), reads: Vec::new() };
        statistics.also(g, params)?;
        Ok(statistics)
    }

    /// Those of another model too.
    pub fn also(&mut self, g: &Gpu, params: &Params) -> Result<()> {
        for observed in params.observed()? {
            let factors = [(1.0 - observed.momentum) as f32, observed.momentum as f32];
            self.observed.push((observed, Tensor::from_slice(g, &[2], &factors)?));
        }
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        if self.observed.is_empty() {
            return Ok(());
        }
        if self.program.is_none() {
            let mut r = Recorder::inference(&self.g);
            for (Observed { values, seen, .. }, factors) in &self.observed {
                ema(&mut r, values, seen, factors)?;
            }
            self.program = Some(Program::new(r.finish())?);
        }
        self.program.as_ref().map_or(Ok(()), Program::run)
    }

    /// Takes in what the latest micro-batch saw: folds it into the running statistics, or starts copying it to the host
    /// if it is `shared` with other processes.
    pub fn add(&mut self, shared: bool) -> Result<()> {
        if !shared {
            return self.run();
        }
        for (Observed { seen, .. }, _) in &self.observed {
            self.reads.push(seen.read(&self.g)?);
        }
        Ok(())
    }

    /// The copies of all micro-batches of this process.
    pub fn take(&mut self) -> Vec<Readback> {
        std::mem::take(&mut self.reads)
    }

    /// Folds in what the micro-batches of one process saw: the bytes of [`Statistics::take`].
    pub fn fold(&mut self, g: &Gpu, seen: &[Vec<u8>]) -> Result<()> {
        let each = self.observed.len().max(1);
        if !seen.len().is_multiple_of(each) {
            return Err(Error::Internal(format!("{} statistics for {each} stretches", seen.len())));
        }
        for part in seen.chunks(each) {
            for ((observed, _), bytes) in self.observed.iter().zip(part) {
                g.write(observed.seen.memory(), bytes)?;
            }
            self.run()?;
        }
        Ok(())
    }
}

//! DropPath's draws: which layers are left out for which image, anew in each step.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::Config;
use crate::ops::rng;
use crate::tensor::Tensor;

/// DropPath's stream of random numbers.
const STREAM: u32 = 1;

/// The probabilities of a model, on the GPU.
#[derive(Debug, Clone)]
pub struct DropPath {
    rates: Option<Tensor>,
}

impl DropPath {
    /// Those of [`Config::drop_path_rates`].
    pub fn new(g: &Gpu, config: &Config) -> Result<Self> {
        let rates: Vec<f32> = config.drop_path_rates().into_iter().map(|rate| rate as f32).collect();
        let dropping = rates.iter().any(|rate| *rate > 0.0);
        Ok(Self { rates: dropping.then(|| Tensor::from_slice(g, &[rates.len()], &rates)).transpose()? })
    }

    /// Launches the draws for `batch` images, a row for each place where something may be dropped; none if nothing is ever
    /// dropped. `state` is the [`StepState`](crate::ops::step::StepState).
    pub fn draw(&self, g: &Gpu, state: &Tensor, batch: usize) -> Result<Option<Tensor>> {
        let Some(rates) = &self.rates else { return Ok(None) };
        rng::keep(g, state, STREAM, rates, rates.len(), batch, batch.next_multiple_of(64)).map(Some)
    }
}

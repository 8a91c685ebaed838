//! DropPath (stochastic depth, timm's `DropPath`): the draws of each step. A draw says for one image whether a residual
//! branch is left out.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::Config;
use crate::ops::rng;
use crate::tape::Recorder;
use crate::tensor::Tensor;

/// Number of DropPath's stream in the random number generator, so that no other draw has the same numbers.
const STREAM: u32 = 1;

/// Drop probability of each branch of a model, on the GPU.
#[derive(Debug, Clone)]
pub struct DropPath {
    rates: Option<Tensor>,
    /// Draws of an image at one place, at most.
    draws: usize,
}

impl DropPath {
    /// The probabilities of [`Config::drop_path_rates`].
    pub fn new(g: &Gpu, config: &Config) -> Result<Self> {
        let rates: Vec<f32> = config.drop_path_rates().into_iter().map(|rate| rate as f32).collect();
        let dropping = rates.iter().any(|rate| *rate > 0.0);
        let rates = dropping.then(|| Tensor::from_slice(g, &[rates.len()], &rates)).transpose()?;
        Ok(Self { rates, draws: config.drop_path_draws() })
    }

    /// Launches the draws of a step: a row (B) for each branch that may be dropped, with 0 for a dropped image and 1 /
    /// (1 − p) for a kept one. Where a branch is dropped by windows, the row has a factor for each window of an image.
    /// Returns `None` if no branch of the model is ever dropped. `state` is the
    /// [`StepState`](crate::ops::step::StepState).
    pub fn draw(&self, r: &mut Recorder, state: &Tensor, batch: usize) -> Result<Option<Tensor>> {
        let Some(rates) = &self.rates else { return Ok(None) };
        let each = batch * self.draws;
        rng::drop_path(r, state, STREAM, rates, rates.len(), each, each.next_multiple_of(64)).map(Some)
    }
}

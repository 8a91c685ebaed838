//! Samples hidden patches from a model that was pretrained with the diffusion loss. DDPM steps lead from noise to
//! pixels. The decoder's vector of each patch is the condition (src/models/README.md, "Diffusion loss").

use crate::error::Result;
use crate::gpu::{Gpu, Program};
use crate::models::{Config, Denoiser};
use crate::ops::diffusion::{SampleStep, denoise};
use crate::ops::reduce;
use crate::ops::rng;
use crate::ops::step::StepState;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;
use crate::train::pretrain::inputs::{PretrainInputs, Tables};
use crate::train::pretrain::mask::PatchMask;

/// Steps of a chain, evenly spaced among the 1000 of training.
const STEPS: usize = 50;
/// The stream of random numbers for the noise of the start and of the steps.
const NOISE: u32 = 1;
const SEED: u64 = 0;

/// The programs of a chain: `begin` computes the condition and the first noise, `step` removes noise, and `end`
/// computes the error of the result.
#[derive(Debug)]
pub struct Sampler {
    g: Gpu,
    begin: Program,
    step: Program,
    end: Program,
    chain: Vec<SampleStep>,
    state: Tensor,
    /// The noise level of the current step: u32 (1, n).
    times: Tensor,
    /// (8)
    coefficients: Tensor,
    /// (n, P·P·3)
    x: Tensor,
    loss: Tensor,
    /// Tokens L of an image.
    tokens: usize,
}

impl Sampler {
    /// Records the programs for the batch that `inputs` and `tables` hold. Predictions are clamped: normalized pixels
    /// to ±5 deviations of their patch, raw ones to ±3 deviations of ImageNet's pixels.
    pub fn new(
        g: &Gpu, model: &dyn Denoiser, normalize: bool, config: &Config, inputs: &PretrainInputs, tables: &Tables,
    ) -> Result<Self> {
        let (n, c) = (tables.counted_tokens(), config.patch_len());
        let state = StepState::tensor();
        let (times, coefficients) =
            (Tensor::indices("step of the chain", &[1, n]), Tensor::input("coefficients", &[8]));
        let (x, z) = (Tensor::input("patches", &[n, c]), Tensor::input("condition", &[n, config.decoder.width]));
        let begin = Recorder::inference(g).record(|r| {
            let batch = inputs.batch(r, tables)?;
            let condition = model.condition(r, &batch, None)?.data;
            z.copy_from(r, &condition)?;
            let noise = rng::normal(r, &state, NOISE, &[n, c])?;
            x.copy_from(r, &noise)
        })?;
        let step = Recorder::inference(g).record(|r| {
            let (noised, condition) = (x.reshape(&[1, n, c])?, Var::constant(z.clone()));
            let pred = model.denoise(r, &noised, &times, &condition)?;
            let noise = rng::normal(r, &state, NOISE, &[n, c])?;
            denoise(r, &x, &pred.data, &noise, &coefficients)
        })?;
        let (end, loss) = Recorder::inference(g).record(|r| {
            let batch = inputs.batch(r, tables)?;
            let rows = model.squared_error(r, &batch, &x)?;
            Ok(reduce::sum(r, &rows)?.data)
        })?;
        Ok(Self {
            begin: Program::new(begin.0)?,
            step: Program::new(step.0)?,
            end: Program::new(end)?,
            chain: model.schedule().sampling(STEPS, 1.0, if normalize { 5.0 } else { 3.0 })?,
            g: g.clone(),
            state,
            times,
            coefficients,
            x,
            loss,
            tokens: config.tokens(),
        })
    }

    /// The uploaded batch → predictions (B, L, P·P·3), zero for visible patches, and their mean squared error (1).
    pub async fn run(&self, mask: &PatchMask) -> Result<(Vec<f32>, Vec<f32>)> {
        let draw = |step: usize| StepState::new(step as u32, 0.0, (0.0, 0.0), SEED).write(&self.g, &self.state);
        draw(0)?;
        self.begin.run()?;
        for (i, step) in self.chain.iter().enumerate() {
            draw(i + 1)?;
            self.times.write(&self.g, &vec![step.t; self.times.len()])?;
            self.coefficients.write(&self.g, &step.coefficients)?;
            self.step.run()?;
        }
        self.end.run()?;
        let (found, loss) = (self.x.to_vec_async(&self.g).await?, self.loss.to_vec_async(&self.g).await?);
        let c = self.x.shape()[1];
        let mut pred = vec![0.0; mask.mask.len() * c];
        let (counted, _) = mask.counted();
        let per_image = counted.len() * self.tokens / mask.mask.len().max(1);
        for (i, (token, values)) in counted.iter().zip(found.chunks_exact(c)).enumerate() {
            let at = (i / per_image.max(1) * self.tokens + *token as usize) * c;
            pred[at..at + c].copy_from_slice(values);
        }
        Ok((pred, loss))
    }
}

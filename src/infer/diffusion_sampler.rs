//! Samples hidden patches from a model pretrained with the diffusion loss: DDPM steps lead from noise to pixels, and
//! what the decoder says of each patch is their condition (src/models/README.md, "Diffusion loss").

use crate::error::Result;
use crate::gpu::{Gpu, Program};
use crate::models::{Config, Diffusion};
use crate::ops::diffusion::{SampleStep, denoise};
use crate::ops::reduce;
use crate::ops::rng;
use crate::ops::step::StepState;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;
use crate::train::pretrain::inputs::{Inputs, Tables};
use crate::train::pretrain::mask::PatchMask;

/// Steps of a chain, evenly spaced among the thousand of training. Pixels lie within ±5 deviations of their patch, and raw
/// ones, in deviations of ImageNet's, within ±3.
const STEPS: usize = 50;
/// The noise of the start and of the steps.
const NOISE: u32 = 1;
const SEED: u64 = 0;

/// The programs of a chain: the condition and the first noise; a step; the error of the result.
#[derive(Debug)]
pub struct Sampler {
    g: Gpu,
    begin: Program,
    step: Program,
    end: Program,
    chain: Vec<SampleStep>,
    state: Tensor,
    /// Where the chain is: (1, n) u32.
    times: Tensor,
    /// (8)
    coefficients: Tensor,
    /// (n, P·P·3)
    x: Tensor,
    loss: Tensor,
    /// L, tokens of an image.
    tokens: usize,
}

impl Sampler {
    /// Records the programs for the batch that `inputs` and `tables` hold.
    pub fn new(g: &Gpu, model: &Diffusion, config: &Config, inputs: &Inputs, tables: &Tables) -> Result<Self> {
        let (n, c) = (tables.counted_tokens(), config.patch_len());
        let state = StepState::tensor();
        let (times, coefficients) = (Tensor::input("step of the chain", &[1, n]), Tensor::input("coefficients", &[8]));
        let (x, z) = (Tensor::input("patches", &[n, c]), Tensor::input("condition", &[n, config.decoder.width]));
        let begin = g.record(|| {
            let batch = inputs.batch(g, config, tables)?;
            z.copy_from(g, &model.condition(g, &mut Tape::off(), &batch, None)?.data)?;
            x.copy_from(g, &rng::normal(g, &state, NOISE, &[n, c])?)
        })?;
        let step = g.record(|| {
            let (noised, condition) = (x.reshape(&[1, n, c])?, Var::constant(z.clone()));
            let pred = model.predict(g, &mut Tape::off(), &noised, &times, &condition)?;
            let noise = rng::normal(g, &state, NOISE, &[n, c])?;
            denoise(g, &x, &pred.data, &noise, &coefficients)
        })?;
        let (end, loss) = g.record(|| {
            let batch = inputs.batch(g, config, tables)?;
            let rows = model.squared_error(g, &batch, &x)?;
            Ok(reduce::sum(g, &mut Tape::off(), &rows)?.data)
        })?;
        Ok(Self {
            begin: Program::new(g, begin.0)?,
            step: Program::new(g, step.0)?,
            end: Program::new(g, end)?,
            chain: model.schedule().sampling(STEPS, 1.0, if model.normalise() { 5.0 } else { 3.0 })?,
            g: g.clone(),
            state,
            times,
            coefficients,
            x,
            loss,
            tokens: config.tokens(),
        })
    }

    /// Predictions for the uploaded batch (B, L, P·P·3), zero where nothing is hidden, and their squared error.
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

//! What the training loop, the pictures and the features ask of a pretraining method.

use std::fmt;

use super::objective::{Method, Objective};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::backbones::Backbone;
use crate::models::batch::MaskedBatch;
use crate::nn::Params;
use crate::ops::diffusion::NoiseSchedule;
use crate::ops::mse_norm::{MseNormOptions, mse_norm};
use crate::ops::reduce::sum;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// The result of a forward pass.
#[derive(Debug)]
pub struct StepResult {
    /// The loss, one number.
    pub loss: Var,
    /// Tensors that [`Pretext::finish`] needs after the backward pass.
    pub kept: Vec<Tensor>,
}

impl StepResult {
    /// A loss, and nothing for [`Pretext::finish`].
    pub fn of(loss: Var) -> Self {
        Self { loss, kept: Vec::new() }
    }
}

/// The reconstruction of a batch.
#[derive(Debug, Clone)]
pub struct Reconstruction {
    /// Features of the visible tokens (B, V, D), with MAE's class token in front (B, 1+V, D).
    pub encoder: Var,
    /// Predicted patches (B, L, P·P·3) in (y, x, channel) order, in units of the target.
    pub pred: Var,
    /// The loss, one number.
    pub loss: Var,
}

/// What a decoder made of the hidden patches of point clouds.
#[derive(Debug, Clone)]
pub struct PointReconstruction {
    /// Features of the visible patches (B, V, D).
    pub encoder: Var,
    /// Rebuilt points of the hidden patches, relative to their centers (B·M, K, 3).
    pub rebuilt: Var,
    /// The true points likewise.
    pub target: Tensor,
    /// The Chamfer distance between both, one number.
    pub loss: Var,
}

/// A model and its pretraining method (a *pretext task*). A step runs [`Pretext::forward`], the backward pass, the
/// update of the weights, and [`Pretext::finish`].
pub trait Pretext: fmt::Debug {
    /// The method.
    fn method(&self) -> Method;

    /// The encoder, which is what pretraining is for.
    fn encoder(&self) -> &Backbone;

    /// From a batch to the loss. `drop_path` has DropPath's factors as in [`Encoder`](crate::models::Encoder). `state`
    /// is the [`StepState`](crate::ops::step::StepState) of the step, from which kernels draw random numbers.
    fn forward(
        &self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>, state: &Tensor,
    ) -> Result<StepResult>;

    /// The patches of a batch as one forward pass predicts them. None where predictions are sampled or where there are
    /// none.
    fn predict(&self, _r: &mut Recorder, _batch: &MaskedBatch) -> Result<Option<Reconstruction>> {
        Ok(None)
    }

    /// The hidden patches of a batch of point clouds as one forward pass rebuilds them. None for methods on images.
    fn rebuild(&self, _r: &mut Recorder, _batch: &MaskedBatch) -> Result<Option<PointReconstruction>> {
        Ok(None)
    }

    /// The network that predictions are sampled from, where they are.
    fn denoiser(&self) -> Option<&dyn Denoiser> {
        None
    }

    /// The patches (L) that it predicts, in raster order, where these are not the ones that a mask hides.
    fn targets(&self) -> Option<Vec<bool>> {
        None
    }

    /// As [`Objective::normalize`].
    fn normalize(&self) -> Option<f32> {
        None
    }

    /// Crops of each image that a batch holds. With 2, the second is `MaskedBatch::second`.
    fn crops(&self) -> usize {
        1
    }

    /// Whether it reads `MaskedBatch::counted`.
    fn reads_counted(&self) -> bool {
        false
    }

    /// Fills its own tensors before the first step, once the weights in `params` have their initial values.
    fn init(&self, _g: &Gpu, _params: &Params, _seed: u64) -> Result<()> {
        Ok(())
    }

    /// What training changes besides the weights, and the file of a checkpoint for each.
    fn companions(&self) -> Vec<(&'static str, &Params)> {
        Vec::new()
    }

    /// Copies of the model that follow its weights w after each step, copy ← m·copy + (1 − m)·w, and their m.
    fn followers(&self) -> Vec<(&Params, f64)> {
        Vec::new()
    }

    /// Launches what has to happen after the update of the weights, with the kept tensors of the step. In a step of
    /// several micro-batches these are the rows of all of them.
    fn finish(&self, _r: &mut Recorder, _state: &Tensor, _kept: &[Tensor]) -> Result<()> {
        Ok(())
    }

    /// A place for the rows that a micro-batch of `batch` images leaves for [`Pretext::finish`]; none if it leaves
    /// none. Asked for in runs with several micro-batches per step.
    fn collect(&mut self, _batch: usize) -> Option<Tensor> {
        None
    }

    /// Launches the copy of a micro-batch's kept tensors to that place.
    fn keep(&self, _r: &mut Recorder, _kept: &[Tensor]) -> Result<()> {
        Ok(())
    }
}

/// A method that predicts the pixels of all patches in one forward pass: MAE, and MAP with its ablations. Everything of
/// [`Pretext`] follows from these four.
pub trait PixelPretext: fmt::Debug {
    /// Method, decoder mask and target.
    fn objective(&self) -> &Objective;

    /// As [`Pretext::encoder`].
    fn encoder(&self) -> &Backbone;

    /// A batch → the features that the decoder reads: those of the visible patches (B, V, D), perhaps with a prefix.
    fn encode(&self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>) -> Result<Var>;

    /// The features of [`PixelPretext::encode`] → predicted patches (B, L, P·P·3).
    fn decode(&self, r: &mut Recorder, features: &Var, batch: &MaskedBatch) -> Result<Var>;

    /// As [`Pretext::targets`].
    fn targets(&self) -> Option<Vec<bool>> {
        None
    }

    /// The whole method: encodes what is visible, decodes all, and compares what is hidden with the truth.
    fn reconstruct(&self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>) -> Result<Reconstruction> {
        let encoder = self.encode(r, batch, drop_path)?;
        let pred = self.decode(r, &encoder, batch)?; // (B, L, P·P·3)
        let loss = pixel_loss(r, &pred, batch, self.objective().normalize())?; // [1]
        Ok(Reconstruction { encoder, pred, loss })
    }
}

impl<T: PixelPretext> Pretext for T {
    fn method(&self) -> Method {
        self.objective().method
    }

    fn encoder(&self) -> &Backbone {
        PixelPretext::encoder(self)
    }

    fn targets(&self) -> Option<Vec<bool>> {
        PixelPretext::targets(self)
    }

    fn normalize(&self) -> Option<f32> {
        self.objective().normalize()
    }

    fn forward(
        &self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>, _state: &Tensor,
    ) -> Result<StepResult> {
        Ok(StepResult::of(self.reconstruct(r, batch, drop_path)?.loss))
    }

    fn predict(&self, r: &mut Recorder, batch: &MaskedBatch) -> Result<Option<Reconstruction>> {
        self.reconstruct(r, batch, None).map(Some)
    }
}

/// The mean squared error of predicted patches (B, L, P·P·3) over the patches that `batch.mask` counts: one number,
/// MAE's `forward_loss`. With `normalize` each target patch gets mean 0 and deviation 1 first.
pub(super) fn pixel_loss(r: &mut Recorder, pred: &Var, batch: &MaskedBatch, normalize: Option<f32>) -> Result<Var> {
    r.scope("loss", |r| {
        let (patches, mask) = (&batch.patches, &batch.mask);
        let options = MseNormOptions { scale: batch.scale, normalize, ..MseNormOptions::default() };
        let rows = mse_norm(r, pred, patches, mask, options)?; // (B, L)
        sum(r, &rows)
    })
}

/// A network that predicts patches by removing noise step by step. n counts the patches of a batch whose loss counts,
/// and C = P·P·3 the values of a patch.
pub trait Denoiser: fmt::Debug {
    /// The noise levels that it was trained on.
    fn schedule(&self) -> &NoiseSchedule;

    /// What the decoder says of the counted patches of a batch: (n, d).
    fn condition(&self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>) -> Result<Var>;

    /// Noised patches (R, n, C), their noise levels (R, n) and the condition (n, d) → the noise (R, n, C), or noise and
    /// variances (R, n, 2C) where it learns them.
    fn denoise(&self, r: &mut Recorder, noised: &Tensor, times: &Tensor, condition: &Var) -> Result<Var>;

    /// Predicted patches x (n, C) → the share of each in their mean squared error, (n).
    fn squared_error(&self, r: &mut Recorder, batch: &MaskedBatch, x: &Tensor) -> Result<Var>;
}

//! Masked Autoregressive Pretraining (MAP, CVPR 2025): hide patches at random, encode the visible ones, and let a
//! decoder that reads row by row predict the pixels of the hidden ones. AR, local MAE and MAE on a Mamba encoder run in
//! the same pipeline: they differ in the decoder's mask and in how many patches are hidden (src/models/README.md,
//! "MAP", D-5, D-6).

use super::objective::{DecoderMask, Method, MethodFacts, Objective};
use super::pretext::{Pretext, Reconstruction, StepResult};
use super::region_decoder::{LINEAR, RegionDecoder};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::backbones::encoder::Purpose;
use crate::models::backbones::{Backbone, backbone};
use crate::models::batch::MaskedBatch;
use crate::models::classifier::head;
use crate::models::config::Config;
use crate::nn::{Linear, Params};
use crate::ops;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

impl Method {
    /// Masked autoregressive pretraining: predicts hidden patches from their own row and the rows above it.
    pub const MAP: Self = Self(&MethodFacts { name: "map", ..MethodFacts::PLAIN });

    /// Autoregression: predicts hidden patches from the tokens before them. It hides 40 of 196
    /// (src/models/README.md, D-5).
    pub const AR: Self = Self(&MethodFacts {
        name: "ar",
        mask_ratio: 40.0 / 196.0,
        decoder_mask: DecoderMask::Ar,
        ..MethodFacts::PLAIN
    });

    /// Local MAE: predicts hidden patches from their own row alone.
    pub const LOCAL_MAE: Self =
        Self(&MethodFacts { name: "local-mae", decoder_mask: DecoderMask::LocalMae, ..MethodFacts::PLAIN });
}

/// Encoder and decoder.
#[derive(Debug, Clone)]
pub struct Map {
    encoder: Backbone,
    decoder: RegionDecoder,
    pred: Linear,
    objective: Objective,
}

/// The encoder of a method with MAP's decoder. A family whose official pretraining weights hold the classifier's head
/// gets one too, though pretraining does not run it.
pub(super) fn encoder(g: &Gpu, params: &mut Params, config: &Config) -> Result<Backbone> {
    let encoder = backbone(g, params, config, Purpose::Pretraining)?;
    if config.family.head_in_pretraining {
        head(params, config)?;
    }
    Ok(encoder)
}

impl Map {
    /// The paper's method. Parameters have their official names (src/models/README.md, "Tensor names").
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        Self::with(g, params, config, &Objective::default())
    }

    /// The pipeline with the decoder's mask, its order and the target of `objective`.
    pub fn with(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Self> {
        Ok(Self {
            encoder: encoder(g, params, config)?,
            decoder: RegionDecoder::new(g, params, config, objective)?,
            pred: Linear::new(params, "ar_pred", config.decoder.width, config.patch_len(), LINEAR)?,
            objective: objective.clone(),
        })
    }

    /// The whole method: encodes what is visible, decodes all, and compares what is hidden with the truth.
    pub fn reconstruct(
        &self, g: &Gpu, t: &mut Tape, batch: &MaskedBatch, drop_path: Option<&Tensor>,
    ) -> Result<Reconstruction> {
        let encoder = self.encoder.encode_visible(g, t, batch, drop_path)?; // (B, V, D)
        let pred = self.decode(g, t, &encoder, batch)?; // (B, L, P·P·3)
        let loss = pixel_loss(g, t, &pred, batch, self.normalize())?; // [1]
        Ok(Reconstruction { encoder, pred, loss })
    }

    /// The attention weights (B, H, L, L) of each block of the decoder.
    pub fn attention(&self, g: &Gpu, batch: &MaskedBatch) -> Result<Vec<Tensor>> {
        let features = self.encoder.encode_visible(g, &mut Tape::off(), batch, None)?; // (B, V, D)
        self.decoder.attention(g, &features, batch)
    }

    /// Features of the visible tokens (B, V, D) → predicted patches (B, L, P·P·3).
    pub fn decode(&self, g: &Gpu, t: &mut Tape, features: &Var, batch: &MaskedBatch) -> Result<Var> {
        let x = self.decoder.forward(g, t, features, batch)?; // (B, L, d)
        let _scope = g.scope(&self.pred.name);
        self.pred.forward(g, t, &x)
    }
}

/// The mean squared error of predicted patches (B, L, P·P·3) over the patches that `batch.mask` counts: one number,
/// MAE's `forward_loss`. With `normalize` each target patch gets mean 0 and deviation 1 first.
pub(super) fn pixel_loss(g: &Gpu, t: &mut Tape, pred: &Var, batch: &MaskedBatch, normalize: bool) -> Result<Var> {
    let _scope = g.scope("loss");
    let (patches, mask) = (&batch.patches, &batch.mask);
    let rows = ops::mse_norm::mse_norm(g, t, pred, patches, mask, 3, batch.scale, normalize)?; // (B, L)
    ops::reduce::sum(g, t, &rows)
}

impl Pretext for Map {
    fn method(&self) -> Method {
        self.objective.method
    }

    fn encoder(&self) -> &Backbone {
        &self.encoder
    }

    fn normalize(&self) -> bool {
        self.objective.normalize()
    }

    fn forward(
        &self, g: &Gpu, t: &mut Tape, batch: &MaskedBatch, drop_path: Option<&Tensor>, _state: &Tensor,
    ) -> Result<StepResult> {
        Ok(StepResult::of(self.reconstruct(g, t, batch, drop_path)?.loss))
    }

    fn predict(&self, g: &Gpu, t: &mut Tape, batch: &MaskedBatch) -> Result<Option<Reconstruction>> {
        self.reconstruct(g, t, batch, None).map(Some)
    }
}

//! Masked Autoregressive Pretraining (MAP, CVPR 2025): hide patches at random, encode the visible ones, and let a
//! decoder that reads row by row predict the pixels of the hidden ones. MAE, AR and local MAE run in the
//! same pipeline: they differ in the decoder's mask and in how much is hidden (src/models/README.md, "MAP", D-5, D-6).

use super::objective::Objective;
use super::region_decoder::{LINEAR, RegionDecoder};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::backbones::Backbone;
use crate::models::batch::Batch;
use crate::models::classifier::head;
use crate::models::config::{Config, Family};
use crate::nn::{Linear, Params};
use crate::ops;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// What a forward pass gives.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// Features of the visible tokens (B, V, D).
    pub encoder: Var,
    /// Predicted patches (B, L, P·P·3), in (y, x, channel) order, in units of the target.
    pub pred: Var,
    /// The loss, one number.
    pub loss: Var,
}

/// Encoder and decoder.
#[derive(Debug, Clone)]
pub struct Map {
    encoder: Backbone,
    decoder: RegionDecoder,
    pred: Linear,
    normalise: bool,
}

/// The encoder of a reconstructing method, with the head that is in the official weights though pretraining does not run it.
pub(crate) fn encoder(g: &Gpu, params: &mut Params, config: &Config) -> Result<Backbone> {
    let encoder = Backbone::pretraining(g, params, config)?;
    if config.family == Family::Hybrid {
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
            normalise: objective.normalize(),
        })
    }

    /// The encoder.
    pub fn encoder(&self) -> &Backbone {
        &self.encoder
    }

    /// Whether the target is normalised.
    pub(crate) fn normalise(&self) -> bool {
        self.normalise
    }

    /// The whole method: what is visible, encoded; what is hidden, decoded; how far off.
    pub fn forward(&self, g: &Gpu, t: &mut Tape, batch: &Batch, keep: Option<&Tensor>) -> Result<Outputs> {
        let encoder = self.encoder.encode_visible(g, t, batch, keep)?; // (B, V, D)
        let pred = self.decode(g, t, &encoder, batch)?; // (B, L, P·P·3)
        let rows = ops::mse_norm::mse_norm(g, t, &pred, &batch.patches, &batch.mask, 3, batch.scale, self.normalise)?; // (B, L)
        let loss = ops::reduce::sum(g, t, &rows)?; // [1]
        Ok(Outputs { encoder, pred, loss })
    }

    /// What each head of the decoder looks at: the weights (B, H, L, L) of each block.
    pub fn attention(&self, g: &Gpu, batch: &Batch) -> Result<Vec<Tensor>> {
        let features = self.encoder.encode_visible(g, &mut Tape::off(), batch, None)?; // (B, V, D)
        self.decoder.attention(g, &features, batch)
    }

    /// Features of the visible tokens (B, V, D) → predicted patches (B, L, P·P·3).
    pub fn decode(&self, g: &Gpu, t: &mut Tape, features: &Var, batch: &Batch) -> Result<Var> {
        let _scope = g.scope("decoder");
        let x = self.decoder.forward(g, t, features, batch)?; // (B, L, d)
        self.pred.forward(g, t, &x)
    }
}

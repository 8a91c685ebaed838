//! Masked Autoregressive Pretraining (MAP, CVPR 2025): hide patches at random, encode the visible ones, and let a
//! decoder that reads row by row predict the pixels of the hidden ones. AR, local MAE and MAE on a Mamba encoder run in
//! the same pipeline: they differ in the decoder's mask and in how many patches are hidden (src/models/README.md,
//! "MAP", D-5, D-6).

use super::objective::{DecoderMask, Method, MethodFacts, Objective};
use super::pretext::PixelPretext;
use super::region_decoder::{LINEAR, RegionDecoder};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::backbones::encoder::Purpose;
use crate::models::backbones::{Backbone, backbone};
use crate::models::batch::MaskedBatch;
use crate::models::classifier::head;
use crate::models::config::Config;
use crate::nn::{Linear, Params};
use crate::tape::{Recorder, Var};
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

    /// The attention weights (B, H, L, L) of each block of the decoder.
    pub fn attention(&self, r: &mut Recorder, batch: &MaskedBatch) -> Result<Vec<Tensor>> {
        let features = self.encoder.encode_visible(r, batch, None)?; // (B, V, D)
        self.decoder.attention(r, &features, batch)
    }
}

impl PixelPretext for Map {
    fn objective(&self) -> &Objective {
        &self.objective
    }

    fn encoder(&self) -> &Backbone {
        &self.encoder
    }

    fn encode(&self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>) -> Result<Var> {
        self.encoder.encode_visible(r, batch, drop_path) // (B, V, D)
    }

    fn decode(&self, r: &mut Recorder, features: &Var, batch: &MaskedBatch) -> Result<Var> {
        let x = self.decoder.forward(r, features, batch)?; // (B, L, d)
        r.scope(&self.pred.name, |r| self.pred.forward(r, &x))
    }
}

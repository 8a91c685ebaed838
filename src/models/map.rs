//! Masked Autoregressive Pretraining (MAP, CVPR 2025, section 4; spec 3.1): hide patches at random, encode what is
//! left, and let a decoder that reads row by row say what the hidden patches looked like.

use super::backbone::Backbone;
use super::batch::Batch;
use super::classifier::head;
use super::config::{Config, Family};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::nn::{CrossBlock, Init, LayerNorm, Linear, Params};
use crate::ops;
use crate::ops::attention::{Mask, Regions};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

const EPS: f32 = 1e-5;

/// What a forward pass gives.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// Features of the visible tokens (B, V, D).
    pub encoder: Var,
    /// Predicted patches (B, L, P·P·3), in (y, x, channel) order, in units of the normalised patch.
    pub pred: Var,
    /// The loss, one number.
    pub loss: Var,
}

/// Encoder and decoder.
#[derive(Debug, Clone)]
pub struct Map {
    encoder: Backbone,
    decoder_embed: Linear,
    mask_token: Var,
    decoder_pos: Var,
    blocks: Vec<CrossBlock>,
    norm: LayerNorm,
    pred: Linear,
    rows: Regions,
}

impl Map {
    /// Parameters under their official names (spec 8).
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let encoder = Backbone::pretraining(g, params, config)?;
        if config.family == Family::Hybrid {
            head(params, config)?; // in the official weights, though pretraining does not run it
        }
        let (d, l, decoder) = (config.decoder.width, config.tokens(), &config.decoder);
        let token = Init::Normal(0.02);
        let linear = Init::XavierUniform; // in both schemes: MAE's and the MAP repository's choice
        let hidden = (d as f64 * decoder.mlp_ratio) as usize;
        let block = |params: &mut Params, i| {
            CrossBlock::new(params, &format!("decoder_blocks.{i}"), d, decoder.heads, hidden, EPS, linear)
        };
        Ok(Self {
            encoder,
            decoder_embed: Linear::new(params, "decoder_embed", config.width, d, linear)?,
            mask_token: params.add("mask_token", &[1, 1, d], &[d], token)?,
            decoder_pos: params.add("decoder_pos_embed_learned", &[1, l, d], &[l, d], token)?,
            blocks: (0..decoder.depth).map(|i| block(params, i)).collect::<Result<_>>()?,
            norm: LayerNorm::new(params, "decoder_norm", d, EPS)?,
            pred: Linear::new(params, "ar_pred", d, config.patch_len(), linear)?,
            rows: Regions::rows(g, config.grid(), config.grid_columns())?,
        })
    }

    /// The encoder.
    pub fn encoder(&self) -> &Backbone {
        &self.encoder
    }

    /// The whole method: what is visible, encoded; what is hidden, decoded; how far off.
    pub fn forward(&self, g: &Gpu, t: &mut Tape, batch: &Batch, keep: Option<&Tensor>) -> Result<Outputs> {
        let encoder = self.encoder.encode_visible(g, t, batch, keep)?; // (B, V, D)
        let pred = self.decode(g, t, &encoder, batch)?; // (B, L, P·P·3)
        let rows = ops::mse_norm::mse_norm(g, t, &pred, &batch.patches, &batch.mask, 3, batch.scale, true)?; // (B, L)
        let loss = ops::reduce::sum(g, t, &rows)?; // [1]
        Ok(Outputs { encoder, pred, loss })
    }

    /// Features of the visible tokens (B, V, D) → predicted patches (B, L, P·P·3). A token attends to the tokens of its own row and
    /// of the rows above it.
    pub fn decode(&self, g: &Gpu, t: &mut Tape, features: &Var, batch: &Batch) -> Result<Var> {
        let _scope = g.scope("decoder");
        let x = self.decoder_embed.forward(g, t, features)?; // (B, V, d)
        let mut x =
            ops::tokens::restore(g, t, &x, &self.mask_token, &self.decoder_pos, &batch.visible, &batch.inverse)?; // (B, L, d)
        for (i, block) in self.blocks.iter().enumerate() {
            let _scope = g.scope(&format!("blocks.{i}"));
            x = block.forward(g, t, &x, Mask::RegionCausal, Some(&self.rows))?;
        }
        let x = self.norm.forward(g, t, &x)?;
        self.pred.forward(g, t, &x)
    }
}

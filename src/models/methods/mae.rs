//! Masked Autoencoders (MAE, CVPR 2022): hide most patches, encode the rest with a ViT, and let a small ViT predict the
//! pixels of the hidden patches, in whose place it sees mask tokens (src/models/README.md, "MAE").

use super::map::pixel_loss;
use super::objective::{DecoderMask, Method, MethodFacts, Objective};
use super::pretext::{Pretext, Reconstruction, StepResult};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::backbones::encoder::Purpose;
use crate::models::backbones::{Backbone, backbone};
use crate::models::batch::MaskedBatch;
use crate::models::config::Config;
use crate::models::options::DecoderKind;
use crate::nn::{Block, BlockConfig, Init, LayerNorm, Linear, Params};
use crate::ops;
use crate::ops::registers::Places;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

impl Method {
    /// Masked autoencoder: predicts hidden patches from all visible ones.
    pub const MAE: Self =
        Self(&MethodFacts { name: "mae", mask_ratio: 0.75, decoder_mask: DecoderMask::Mae, ..MethodFacts::PLAIN });
}

/// Encoder and decoder: the MAE repository's `MaskedAutoencoderViT`.
#[derive(Debug, Clone)]
pub struct Mae {
    encoder: Backbone,
    decoder_embed: Linear,
    mask_token: Var,
    /// Fixed, (1, 1+L, d): the class token's row first.
    decoder_pos: Var,
    blocks: Vec<Block>,
    norm: LayerNorm,
    pred: Linear,
    objective: Objective,
}

impl Mae {
    /// MAE as published. Parameters have the names of the published checkpoints.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        Self::with(g, params, config, &Objective::of(Method::MAE))
    }

    /// MAE with the target of `objective`.
    pub fn with(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Self> {
        let decoder = &config.decoder;
        if decoder.kind != DecoderKind::Mae {
            return Err(Error::argument("decoder.kind", format!("{:?}", decoder.kind), "Mae"));
        }
        let encoder = backbone(g, params, config, Purpose::Pretraining)?;
        let (d, l, init) = (decoder.width, config.tokens(), Init::XavierUniform);
        let block = BlockConfig {
            width: d,
            heads: decoder.heads,
            hidden: (d as f64 * decoder.mlp_ratio).round() as usize,
            eps: config.eps(),
            qkv_bias: config.qkv_bias,
            init,
        };
        let blocks = 0..decoder.depth;
        let positions = params.add(
            "decoder_pos_embed",
            &[1, 1 + l, d],
            &[1, 1 + l, d],
            Init::SinCos { columns: config.grid_columns(), class: Some(0) },
        )?;
        Ok(Self {
            encoder,
            decoder_embed: Linear::new(params, "decoder_embed", config.width, d, init)?,
            mask_token: params.add("mask_token", &[1, 1, d], &[d], Init::Normal(0.02))?,
            decoder_pos: Var::constant(positions.data),
            blocks: blocks
                .map(|i| Block::new(params, &format!("decoder_blocks.{i}"), &block))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(params, "decoder_norm", d, block.eps)?,
            pred: Linear::new(params, "decoder_pred", d, config.patch_len(), init)?,
            objective: objective.clone(),
        })
    }

    /// The whole method: encodes what is visible, decodes all, and compares what is hidden with the truth.
    /// `Reconstruction::encoder` has the class token in front: (B, 1+V, D).
    pub fn reconstruct(
        &self, g: &Gpu, t: &mut Tape, batch: &MaskedBatch, drop_path: Option<&Tensor>,
    ) -> Result<Reconstruction> {
        let encoder = self.encoder.encode_visible_with_prefix(g, t, batch, drop_path)?; // (B, 1+V, D)
        let pred = self.decode(g, t, &encoder, batch)?; // (B, L, P·P·3)
        let loss = pixel_loss(g, t, &pred, batch, self.normalize())?; // [1]
        Ok(Reconstruction { encoder, pred, loss })
    }

    /// Features with the class token in front (B, 1+V, D) → predicted patches (B, L, P·P·3).
    pub fn decode(&self, g: &Gpu, t: &mut Tape, features: &Var, batch: &MaskedBatch) -> Result<Var> {
        let mut x = self.tokens(g, t, features, batch)?; // (B, 1+L, d)
        for block in &self.blocks {
            let _scope = g.scope(&block.name);
            let block = block.clone();
            [x] = t.segment(g, move |g, t| Ok([block.forward(g, t, &x, None)?]))?;
        }
        let x = {
            let _scope = g.scope(&self.norm.name);
            self.norm.forward(g, t, &x)?
        };
        let _scope = g.scope(&self.pred.name);
        let x = ops::registers::rest(g, t, &x, Places::front())?; // (B, L, d)
        self.pred.forward(g, t, &x)
    }

    /// Features with the class token in front (B, 1+V, D) → the decoder's input: the class token, then the visible
    /// patches at their places among mask tokens, all with their positions (B, 1+L, d).
    fn tokens(&self, g: &Gpu, t: &mut Tape, features: &Var, batch: &MaskedBatch) -> Result<Var> {
        let _scope = g.scope(&self.decoder_embed.name);
        let front = Places::front();
        let x = self.decoder_embed.forward(g, t, features)?; // (B, 1+V, d)

        let positions = ops::registers::extract(g, t, &self.decoder_pos, front)?; // (1, 1, d)
        let class = ops::registers::extract(g, t, &x, front)?; // (B, 1, d)
        let class = ops::tokens::add_positions(g, t, &class, &positions)?;

        let positions = ops::registers::rest(g, t, &self.decoder_pos, front)?; // (1, L, d)
        let x = ops::registers::rest(g, t, &x, front)?; // (B, V, d)
        let (visible, inverse) = (&batch.visible, &batch.inverse);
        let x = ops::tokens::restore(g, t, &x, &self.mask_token, &positions, visible, inverse)?; // (B, L, d)

        ops::registers::insert(g, t, &x, &class, front)
    }
}

impl Pretext for Mae {
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

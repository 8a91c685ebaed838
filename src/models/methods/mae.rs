//! Masked Autoencoders (MAE, CVPR 2022): hide most patches, encode the rest with a ViT, and let a small ViT
//! that sees mask tokens in place of the hidden ones predict their pixels (src/models/README.md, "MAE").

use super::map::Reconstruction;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::backbones::Backbone;
use crate::models::batch::MaskedBatch;
use crate::models::config::{Config, DecoderKind};
use crate::nn::{Block, BlockConfig, Init, LayerNorm, Linear, Params};
use crate::ops;
use crate::ops::registers::Places;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// Encoder and decoder.
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
}

impl Mae {
    /// Parameters under the names of the published checkpoints.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let decoder = &config.decoder;
        if decoder.kind != DecoderKind::Mae {
            return Err(Error::argument("decoder.kind", format!("{:?}", decoder.kind), "Mae"));
        }
        let encoder = Backbone::pretraining(g, params, config)?;
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
        })
    }

    /// The encoder.
    pub fn encoder(&self) -> &Backbone {
        &self.encoder
    }

    /// The whole method: what is visible, encoded; what is hidden, decoded; how far off. `Reconstruction::encoder` has the class
    /// token in front: (B, 1+V, D). `normalize` compares with pixels of zero mean and unit deviation in each patch.
    pub fn forward(
        &self, g: &Gpu, t: &mut Tape, batch: &MaskedBatch, drop_path: Option<&Tensor>, normalize: bool,
    ) -> Result<Reconstruction> {
        let encoder = self.encoder.encode_with_class(g, t, batch, drop_path)?; // (B, 1+V, D)
        let pred = self.decode(g, t, &encoder, batch)?; // (B, L, P·P·3)
        let rows = ops::mse_norm::mse_norm(g, t, &pred, &batch.patches, &batch.mask, 3, batch.scale, normalize)?; // (B, L)
        let loss = ops::reduce::sum(g, t, &rows)?; // [1]
        Ok(Reconstruction { encoder, pred, loss })
    }

    /// Features with the class token in front (B, 1+V, D) → predicted patches (B, L, P·P·3).
    pub fn decode(&self, g: &Gpu, t: &mut Tape, features: &Var, batch: &MaskedBatch) -> Result<Var> {
        let _scope = g.scope("decoder");
        let front = Places::front();
        let x = self.decoder_embed.forward(g, t, features)?; // (B, 1+V, d)

        let positions = ops::registers::extract(g, t, &self.decoder_pos, front)?; // (1, 1, d)
        let class = ops::registers::extract(g, t, &x, front)?; // (B, 1, d)
        let class = ops::tokens::add_positions(g, t, &class, &positions)?;

        let positions = ops::registers::rest(g, t, &self.decoder_pos, front)?; // (1, L, d)
        let x = ops::registers::rest(g, t, &x, front)?; // (B, V, d)
        let x = ops::tokens::restore(g, t, &x, &self.mask_token, &positions, &batch.visible, &batch.inverse)?; // (B, L, d)

        let mut x = ops::registers::insert(g, t, &x, &class, front)?; // (B, 1+L, d)
        for (i, block) in self.blocks.iter().enumerate() {
            let _scope = g.scope(&format!("blocks.{i}"));
            let block = block.clone();
            [x] = t.segment(g, move |g, t| Ok([block.forward(g, t, &x, None)?]))?;
        }
        let x = self.norm.forward(g, t, &x)?;
        let x = ops::registers::rest(g, t, &x, front)?; // (B, L, d)
        self.pred.forward(g, t, &x)
    }
}

//! Masked Autoencoders (MAE, CVPR 2022): hide most patches, encode the rest with a ViT, and let a small ViT predict the
//! pixels of the hidden patches, in whose place it sees mask tokens (src/models/README.md, "MAE").

use super::objective::{DecoderMask, Method, MethodFacts, Objective};
use super::pretext::PixelPretext;
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
use crate::tape::{Recorder, Var};
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
            Init::SinCos { columns: config.grid_columns(), class: Some(0), scale: 1.0 },
        )?;
        Ok(Self {
            encoder,
            decoder_embed: Linear::new(params, "decoder_embed", config.width, d, init)?,
            mask_token: params.add("mask_token", &[1, 1, d], &[d], Init::Normal(config.mask_token_std as f32))?,
            decoder_pos: Var::constant(positions.data),
            blocks: blocks
                .map(|i| Block::new(params, &format!("decoder_blocks.{i}"), &block))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(params, "decoder_norm", d, block.eps)?,
            pred: Linear::new(params, "decoder_pred", d, config.patch_len(), init)?,
            objective: objective.clone(),
        })
    }

    /// Features with the class token in front (B, 1+V, D) → the decoder's input: the class token, then the visible
    /// patches at their places among mask tokens, all with their positions (B, 1+L, d).
    fn tokens(&self, r: &mut Recorder, features: &Var, batch: &MaskedBatch) -> Result<Var> {
        r.scope(&self.decoder_embed.name, |r| {
            let front = Places::front();
            let x = self.decoder_embed.forward(r, features)?; // (B, 1+V, d)

            let positions = ops::registers::extract(r, &self.decoder_pos, front)?; // (1, 1, d)
            let class = ops::registers::extract(r, &x, front)?; // (B, 1, d)
            let class = ops::tokens::add_positions(r, &class, &positions)?;

            let positions = ops::registers::rest(r, &self.decoder_pos, front)?; // (1, L, d)
            let x = ops::registers::rest(r, &x, front)?; // (B, V, d)
            let (visible, inverse) = (&batch.visible, &batch.inverse);
            let x = ops::tokens::restore(r, &x, &self.mask_token, &positions, visible, inverse)?; // (B, L, d)

            ops::registers::insert(r, &x, &class, front)
        })
    }
}

impl PixelPretext for Mae {
    fn objective(&self) -> &Objective {
        &self.objective
    }

    fn encoder(&self) -> &Backbone {
        &self.encoder
    }

    /// With the class token in front: (B, 1+V, D).
    fn encode(&self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>) -> Result<Var> {
        self.encoder.encode_visible_with_prefix(r, batch, drop_path)
    }

    fn decode(&self, r: &mut Recorder, features: &Var, batch: &MaskedBatch) -> Result<Var> {
        let mut x = self.tokens(r, features, batch)?; // (B, 1+L, d)
        for block in &self.blocks {
            let (name, block) = (block.name.clone(), block.clone());
            [x] = r.scope(&name, |r| r.segment(move |r| Ok([block.forward(r, &x, None)?])))?;
        }
        let x = r.scope(&self.norm.name, |r| self.norm.forward(r, &x))?;
        r.scope(&self.pred.name, |r| {
            let x = ops::registers::rest(r, &x, Places::front())?; // (B, L, d)
            self.pred.forward(r, &x)
        })
    }
}

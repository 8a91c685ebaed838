//! MAP's decoder: visible features and mask tokens, each at its place, go through blocks with separate norms for
//! queries and keys. MAE, AR and local MAE differ from MAP in the attention mask (src/models/README.md, "MAP", "Decoder
//! masks").

use super::objective::{DecoderMask, Objective};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::batch::MaskedBatch;
use crate::models::config::Config;
use crate::models::options::{InitPositions, Order};
use crate::nn::{BlockConfig, CrossBlock, Init, LayerNorm, Linear, Params};
use crate::ops;
use crate::ops::attention::{AttentionMask, Regions};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

const EPS: f32 = 1e-5;
/// Initial values of the linear layers, in both schemes: the choice of MAE and of the MAP repository.
pub(crate) const LINEAR: Init = Init::XavierUniform;

impl DecoderMask {
    /// The kind of attention mask, and the region of each token of a grid of `height` × `width` (L), in raster order.
    /// The mask compares the regions of two tokens.
    pub fn regions(self, order: Order, grid: (usize, usize)) -> (AttentionMask, Vec<u32>) {
        match self {
            Self::Map => (AttentionMask::RegionCausal, order.lines(grid)),
            Self::Ar => (AttentionMask::RegionCausal, order.ranks(grid)),
            Self::Mae => (AttentionMask::Full, order.ranks(grid)),
            Self::LocalMae => (AttentionMask::SameRegion, order.lines(grid)),
        }
    }

    /// The mask as a table (L, L): whether a token (row) may attend to another (column).
    pub fn allows(self, order: Order, grid: (usize, usize)) -> Vec<bool> {
        let (rule, regions) = self.regions(order, grid);
        let seen = |i: u32, j: u32| match rule {
            AttentionMask::Full => true,
            AttentionMask::RegionCausal => j <= i,
            AttentionMask::SameRegion => j == i,
        };
        regions.iter().flat_map(|&i| regions.iter().map(move |&j| seen(i, j))).collect()
    }
}

/// The decoder: from features of the visible tokens to a vector for every token.
#[derive(Debug, Clone)]
pub struct RegionDecoder {
    embed: Linear,
    mask_token: Var,
    pos: Var,
    blocks: Vec<CrossBlock>,
    norm: LayerNorm,
    mask: AttentionMask,
    regions: Regions,
}

impl RegionDecoder {
    /// Parameters under their official names (src/models/README.md, "Tensor names").
    pub fn new(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Self> {
        Self::reading(g, params, config, objective, config.width)
    }

    /// [`RegionDecoder::new`] for features of another width than the encoder's.
    pub fn reading(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective, width: usize) -> Result<Self> {
        let (d, l, decoder) = (config.decoder.width, config.tokens(), &config.decoder);
        let token = Init::Normal(config.mask_token_std as f32);
        let positions = match config.init_positions {
            InitPositions::Normal => Init::Normal(0.02),
            InitPositions::SinCos => {
                Init::SinCos { columns: config.grid_columns(), class: None, scale: config.position_scale as f32 }
            }
        };
        let block = BlockConfig {
            width: d,
            heads: decoder.heads,
            hidden: (d as f64 * decoder.mlp_ratio) as usize,
            eps: EPS,
            qkv_bias: true,
            init: LINEAR,
        };
        let block = |params: &mut Params, i| CrossBlock::new(params, &format!("decoder_blocks.{i}"), &block);
        let (mask, regions) = objective.mask().regions(objective.order(config), (config.grid(), config.grid_columns()));
        Ok(Self {
            embed: Linear::new(params, "decoder_embed", width, d, LINEAR)?,
            mask_token: params.add("mask_token", &[1, 1, d], &[d], token)?,
            pos: params.add("decoder_pos_embed_learned", &[1, l, d], &[l, d], positions)?,
            blocks: (0..decoder.depth).map(|i| block(params, i)).collect::<Result<_>>()?,
            norm: LayerNorm::new(params, "decoder_norm", d, EPS)?,
            mask,
            regions: Regions::new(g, &regions)?,
        })
    }

    /// Features (.., D) → in the decoder's width (.., d).
    pub fn embed(&self, r: &mut Recorder, features: &Var) -> Result<Var> {
        r.scope(&self.embed.name, |r| self.embed.forward(r, features))
    }

    /// Visible tokens (B, V, d) → the decoder's input: visible tokens at their places, mask tokens at the others, all
    /// with their positions (B, L, d).
    fn tokens(&self, r: &mut Recorder, visible: &Var, batch: &MaskedBatch) -> Result<Var> {
        r.scope(&self.embed.name, |r| {
            ops::tokens::restore(r, visible, &self.mask_token, &self.pos, &batch.visible, &batch.inverse)
        })
    }

    /// Features of the visible tokens (B, V, D) → the attention weights (B, H, L, L) of each block.
    pub fn attention(&self, r: &mut Recorder, features: &Var, batch: &MaskedBatch) -> Result<Vec<Tensor>> {
        let embedded = self.embed(r, features)?; // (B, V, d)
        self.attention_of(r, &embedded, batch)
    }

    /// [`RegionDecoder::attention`] of embedded tokens (B, V, d).
    pub fn attention_of(&self, r: &mut Recorder, embedded: &Var, batch: &MaskedBatch) -> Result<Vec<Tensor>> {
        let seen = Some(&self.regions);
        let mut x = self.tokens(r, embedded, batch)?; // (B, L, d)
        let mut weights = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            weights.push(block.weights(r, &x, self.mask, seen)?);
            x = block.forward(r, &x, self.mask, seen)?;
        }
        Ok(weights)
    }

    /// Features of the visible tokens (B, V, D) → normalized vectors of all tokens (B, L, d).
    pub fn forward(&self, r: &mut Recorder, features: &Var, batch: &MaskedBatch) -> Result<Var> {
        let embedded = self.embed(r, features)?; // (B, V, d)
        self.forward_of(r, &embedded, batch)
    }

    /// [`RegionDecoder::forward`] of embedded tokens (B, V, d).
    pub fn forward_of(&self, r: &mut Recorder, embedded: &Var, batch: &MaskedBatch) -> Result<Var> {
        let mut x = self.tokens(r, embedded, batch)?; // (B, L, d)
        for block in &self.blocks {
            let (name, block) = (block.name.clone(), block.clone());
            let (mask, regions) = (self.mask, self.regions.clone());
            [x] = r.scope(&name, |r| r.segment(move |r| Ok([block.forward(r, &x, mask, Some(&regions))?])))?;
        }
        r.scope(&self.norm.name, |r| self.norm.forward(r, &x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(mask: DecoderMask, order: Order, grid: (usize, usize)) -> Vec<Vec<bool>> {
        mask.allows(order, grid).chunks(grid.0 * grid.1).map(<[bool]>::to_vec).collect()
    }

    /// The pair counts are those of src/models/README.md, "Decoder masks".
    #[test]
    fn pairs_are_as_many_as_the_paper_has() {
        let masks = [
            (DecoderMask::Ar, 19_306),
            (DecoderMask::Mae, 38_416),
            (DecoderMask::LocalMae, 2744),
            (DecoderMask::Map, 20_580),
        ];
        for (mask, pairs) in masks {
            for order in [Order::Rows, Order::Columns] {
                let allowed = allows(mask, order, (14, 14));
                assert_eq!(allowed.iter().flatten().filter(|a| **a).count(), pairs, "{mask:?} {order:?}");
                assert!((0..196).all(|i| allowed[i][i]), "a token sees itself");
            }
        }
    }

    /// 0 1 2
    /// 3 4 5
    #[test]
    fn columns_are_the_transposed_rows() {
        let seen = |mask, token: usize| -> Vec<usize> {
            let row = &allows(mask, Order::Columns, (2, 3))[token];
            (0..6).filter(|&j| row[j]).collect()
        };
        assert_eq!(seen(DecoderMask::Map, 1), [0, 1, 3, 4]);
        assert_eq!(seen(DecoderMask::Ar, 1), [0, 1, 3]); // 0 3 1 4 2 5
        assert_eq!(seen(DecoderMask::LocalMae, 1), [1, 4]);
        assert_eq!(seen(DecoderMask::Mae, 1).len(), 6);
    }
}

//! Vision Transformer and DeiT under timm's names: tokens plus positions, blocks, norm, then class token or mean
//! (src/models/README.md, "ViT and DeiT").

use super::embedding::{Embedding, linear_init};
use super::layers::drop_path_row;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::config::{Config, Pool};
use crate::nn::{Block, BlockConfig, LayerNorm, Params};
use crate::ops::reshape::reshape;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// Backbone with its class token, which pretraining uses too.
#[derive(Debug, Clone)]
pub struct Vit {
    pub(crate) embedding: Embedding,
    blocks: Vec<Block>,
    /// Behind the blocks (`norm`), or behind the mean of the tokens (`fc_norm`).
    norm: LayerNorm,
    average: bool,
}

impl Vit {
    /// Parameters under timm's names. `pretraining` has the norm behind the blocks, whatever a classifier would read.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config, pretraining: bool) -> Result<Self> {
        let embedding = Embedding::new(g, params, config)?;
        let block = BlockConfig {
            width: config.width,
            heads: config.heads,
            hidden: config.mlp_hidden(),
            eps: config.eps(),
            qkv_bias: config.qkv_bias,
            init: linear_init(config),
        };
        let blocks = 0..config.pattern.len();
        let blocks = blocks.map(|i| Block::new(params, &format!("blocks.{i}"), &block)).collect::<Result<_>>()?;
        let average = config.pool == Pool::Average && !pretraining;
        let norm = LayerNorm::new(params, if average { "fc_norm" } else { "norm" }, config.width, block.eps)?;
        Ok(Self { embedding, blocks, norm, average })
    }

    /// Embedded tokens (B, L, D) → features (B, L, D), normalized unless their mean will be. Rows 2i and 2i+1 of `drop_path`
    /// hold DropPath's draws for attention and MLP of block i.
    pub fn encode(&self, g: &Gpu, t: &mut Tape, tokens: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let batch = tokens.data.shape()[0];
        let mut x = tokens.clone();
        for (i, block) in self.blocks.iter().enumerate() {
            let _scope = g.scope(&format!("blocks.{i}"));
            let drop_path = drop_path_row(drop_path, 2 * i, batch)?.zip(drop_path_row(drop_path, 2 * i + 1, batch)?);
            let (block, drop_path) = (block.clone(), drop_path.map(|(attention, mlp)| [attention, mlp]));
            [x] = t.segment(g, move |g, t| Ok([block.forward(g, t, &x, drop_path.as_ref())?]))?;
        }
        if self.average { Ok(x) } else { self.norm.forward(g, t, &x) }
    }

    /// Features of a sequence (B, L+1, D) → what the head reads (B, D).
    pub fn pool(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        if self.average {
            let mean = self.embedding.mean(g, t, x)?;
            return self.norm.forward(g, t, &mean);
        }
        let x = self.embedding.own(g, t, x)?; // (B, 1, D)
        let [b, _, d] = x.data.dims("class token")?;
        reshape(g, t, &x, &[b, d])
    }
}

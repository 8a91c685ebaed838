//! Vision Mamba (Vim, ICML 2024): Mamba layers that scan both ways, with a class token in the middle of the
//! patches, row by row or column by column (src/models/README.md, "Mamba-R and Vim").

use super::embedding::Embedding;
use super::layers::Layers;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::config::{Config, Pool};
use crate::nn::Params;
use crate::ops::reshape::reshape;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// Backbone with its class token, which takes no part in pretraining (src/models/README.md, D-22).
#[derive(Debug, Clone)]
pub struct Vim {
    pub(crate) embedding: Embedding,
    layers: Layers,
    pool: Pool,
}

impl Vim {
    /// Parameters under their official names.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let embedding = Embedding::new(g, params, config)?;
        Ok(Self { embedding, layers: Layers::new(params, config)?, pool: config.pool })
    }

    /// Embedded tokens (B, L, D) → normalized features (B, L, D).
    pub fn encode(&self, g: &Gpu, t: &mut Tape, tokens: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        self.layers.forward(g, t, tokens, drop_path)
    }

    /// Features of a sequence with its class token (B, L+1, D) → what the head reads (B, D).
    pub fn pool(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        if self.pool == Pool::Average {
            return self.embedding.mean(g, t, x);
        }
        let x = self.embedding.own(g, t, x)?; // (B, 1, D)
        let [b, _, d] = x.data.dims("class token")?;
        reshape(g, t, &x, &[b, d])
    }
}

//! HybridNet (MAP, CVPR 2025) and Mamba-R, which is HybridNet without transformer blocks. Registers stand
//! evenly spaced among the patches, and the classifier reads all of them
//! (src/models/README.md, "HybridNet" and "Mamba-R and Vim").

use super::embedding::{Embedding, linear_init};
use super::layers::Layers;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::config::{Config, Pool};
use crate::nn::{Linear, Params, ResidualNorm};
use crate::ops::reshape::reshape;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// Backbone with registers and neck; pretraining leaves both untouched.
#[derive(Debug, Clone)]
pub struct HybridNet {
    pub(crate) embedding: Embedding,
    layers: Layers,
    neck: Option<Box<Neck>>,
    pool: Pool,
}

/// Narrows each register, then normalizes all of them together.
#[derive(Debug, Clone)]
struct Neck {
    linear: Linear,
    norm: ResidualNorm,
}

impl HybridNet {
    /// Parameters under their official names (src/models/README.md, "Tensor names").
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let (d, r) = (config.width, config.cls_reduce);
        let embedding = Embedding::new(g, params, config)?;
        let layers = Layers::new(params, config)?;
        let neck = if config.pool == Pool::Registers && config.registers > 0 && r > 1 {
            let linear = Linear::no_bias(params, "neck", d, d / r, linear_init(config))?;
            let norm = ResidualNorm::new(params, "norm_neck", config.features(), config.eps(), config.rms_norm)?;
            Some(Box::new(Neck { linear, norm }))
        } else {
            None
        };
        Ok(Self { embedding, layers, neck, pool: config.pool })
    }

    /// Embedded tokens (B, L, D) → normalized features (B, L, D).
    pub fn encode(&self, g: &Gpu, t: &mut Tape, tokens: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        self.layers.forward(g, t, tokens, drop_path)
    }

    /// Features of a sequence with registers (B, L+n, D) → what the head reads (B, F).
    pub fn pool(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        if self.pool == Pool::Average {
            return self.embedding.mean(g, t, x);
        }
        let _scope = g.scope("neck");
        let mut x = self.embedding.own(g, t, x)?; // (B, n, D)
        if let Some(neck) = &self.neck {
            x = neck.linear.forward(g, t, &x)?; // (B, n, D/r)
        }
        let [b, n, d] = x.data.dims("registers")?;
        let x = reshape(g, t, &x, &[b, n * d])?;
        match &self.neck {
            Some(neck) => Ok(neck.norm.add(g, t, &x, None, None)?.0),
            None => Ok(x),
        }
    }
}

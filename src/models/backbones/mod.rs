//! The one interface to all backbones: what pretraining, probes and classifiers ask of them.

pub mod embedding;
pub mod hybridnet;
pub mod layers;
pub mod positions;
pub mod vim;
pub mod vit;

use super::batch::MaskedBatch;
use super::config::{Config, Family};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::nn::Params;
use crate::ops::tokens;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;
use embedding::Embedding;
use hybridnet::HybridNet;
use vim::Vim;
use vit::Vit;

/// An encoder of any family.
#[derive(Debug, Clone)]
pub enum Backbone {
    /// HybridNet and Mamba-R.
    Hybrid(HybridNet),
    /// Vision Mamba.
    Vim(Vim),
    /// Vision Transformer.
    Vit(Vit),
}

impl Backbone {
    /// Parameters under their official names.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        Self::build(g, params, config, false)
    }

    /// The encoder of a pretraining method: a ViT keeps the norm behind its blocks, whatever its classifier reads.
    pub fn pretraining(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        Self::build(g, params, config, true)
    }

    fn build(g: &Gpu, params: &mut Params, config: &Config, pretraining: bool) -> Result<Self> {
        config.validate()?;
        Ok(match config.family {
            Family::Hybrid => Self::Hybrid(HybridNet::new(g, params, config)?),
            Family::Vim => Self::Vim(Vim::new(g, params, config)?),
            Family::Vit => Self::Vit(Vit::new(g, params, config, pretraining)?),
        })
    }

    /// What pretraining encodes: features of the visible tokens only, (B, V, D), in the order of
    /// `batch.visible`. Of the model's own tokens only a ViT's class token takes part, and the result leaves it out
    /// (src/models/README.md, D-22).
    pub fn encode_visible(
        &self, g: &Gpu, t: &mut Tape, batch: &MaskedBatch, drop_path: Option<&Tensor>,
    ) -> Result<Var> {
        let x = self.encode_with_class(g, t, batch, drop_path)?;
        self.without_class(g, t, &x)
    }

    /// [`Backbone::encode_visible`] with the class token of a ViT in front: (B, 1+V, D).
    pub fn encode_with_class(
        &self, g: &Gpu, t: &mut Tape, batch: &MaskedBatch, drop_path: Option<&Tensor>,
    ) -> Result<Var> {
        let patches = Var::constant(batch.patches.clone()); // (B, L, P·P·3)
        let seen = tokens::gather(g, t, &patches, &batch.visible, &batch.inverse)?; // (B, V, P·P·3)
        let x = self.embedding().visible(g, t, &seen, &batch.visible, &batch.inverse)?; // (B, V, D)
        let x = self.with_class(g, t, &x)?;
        self.encode(g, t, &x, drop_path)
    }

    /// All patch rows (B, L, P·P·3) in raster order → normalized features of all patch tokens (B, L, D) in raster order,
    /// as pretraining sees them: for probes.
    pub fn tokens(&self, g: &Gpu, t: &mut Tape, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let x = self.embedding().all(g, t, patches)?;
        let x = self.with_class(g, t, &x)?;
        let x = self.encode(g, t, &x, drop_path)?;
        let x = self.without_class(g, t, &x)?;
        self.embedding().to_raster(g, t, &x)
    }

    /// All patch rows (B, L, P·P·3) in raster order → features of the whole sequence, the model's own tokens included,
    /// in scan order: (B, L+n, D).
    pub fn sequence(&self, g: &Gpu, t: &mut Tape, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let x = self.embedding().all(g, t, patches)?;
        let x = self.embedding().with_own(g, t, &x)?;
        self.encode(g, t, &x, drop_path)
    }

    /// Features of a whole sequence (B, L+n, D) → what a classifier's head reads (B, F).
    pub fn pool(&self, g: &Gpu, t: &mut Tape, sequence: &Var) -> Result<Var> {
        match self {
            Self::Hybrid(net) => net.pool(g, t, sequence),
            Self::Vim(net) => net.pool(g, t, sequence),
            Self::Vit(net) => net.pool(g, t, sequence),
        }
    }

    /// All patch rows (B, L, P·P·3) → pooled features (B, F).
    pub fn features(&self, g: &Gpu, t: &mut Tape, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let sequence = self.sequence(g, t, patches, drop_path)?;
        self.pool(g, t, &sequence)
    }

    fn encode(&self, g: &Gpu, t: &mut Tape, x: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        match self {
            Self::Hybrid(net) => net.encode(g, t, x, drop_path),
            Self::Vim(net) => net.encode(g, t, x, drop_path),
            Self::Vit(net) => net.encode(g, t, x, drop_path),
        }
    }

    fn embedding(&self) -> &Embedding {
        match self {
            Self::Hybrid(net) => &net.embedding,
            Self::Vim(net) => &net.embedding,
            Self::Vit(net) => &net.embedding,
        }
    }

    /// A ViT's class token in front of visible tokens; the others have none in pretraining.
    fn with_class(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        if matches!(self, Self::Vit(_)) { self.embedding().with_own(g, t, x) } else { Ok(x.clone()) }
    }

    fn without_class(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        if matches!(self, Self::Vit(_)) { self.embedding().patches(g, t, x) } else { Ok(x.clone()) }
    }
}

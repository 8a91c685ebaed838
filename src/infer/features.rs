//! Features of whole images from an encoder whose weights do not change.

use std::collections::BTreeMap;
use std::fmt;

use super::program::InferenceProgram;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::adapt;
use crate::models::{Backbone, Config, Contents, Family, Pool, Purpose, backbone, contents};
use crate::nn::{Mismatch, Params, Weights};
use crate::ops::reduce;

/// The encoder of a checkpoint, whether a decoder or a classifier was trained on top of it.
#[derive(Debug)]
pub struct FrozenEncoder {
    /// Its weights.
    pub params: Params,
    /// Its network.
    pub backbone: Backbone,
    /// Tensors of the checkpoint that its features do not depend on: a decoder, a head, registers.
    pub left_out: Vec<String>,
    /// Position embeddings that were resized to another grid.
    pub resized: Vec<String>,
    reads: Reads,
}

/// What the features are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// The mean of the patch tokens, as pretraining sees them.
    Tokens,
    /// The mean of the patch tokens that a classifier was trained on: what its head reads. timm's
    /// `forward_head(pre_logits=True)` with `global_pool='avg'`.
    Pooled {
        /// Whether `fc_norm` normalizes the mean.
        normalized: bool,
    },
}

impl Reads {
    /// Average pooling was trained where no decoder was: a decoder comes with a mask token. In a ViT `fc_norm` then
    /// stands in the place of `norm`.
    fn of(config: &Config, weights: &Weights) -> Self {
        let has = |name: &str| weights.contains_key(name);
        let decoded = has("mask_token") || contents(weights) == Contents::Arm;
        let pooled = config.pool == Pool::Average && !decoded && !has("norm.weight");
        if pooled { Self::Pooled { normalized: has("fc_norm.weight") } } else { Self::Tokens }
    }
}

impl fmt::Display for FrozenEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reads {
            Reads::Tokens => "the mean of the patch tokens",
            Reads::Pooled { normalized: false } => "the mean of the patch tokens, as the head reads it",
            Reads::Pooled { normalized: true } => "the mean of the patch tokens through fc_norm, as the head reads it",
        })?;
        if !self.resized.is_empty() {
            write!(f, "; resized: {}", self.resized.join(", "))?;
        }
        let mut parts = BTreeMap::<&str, usize>::new();
        self.left_out.iter().for_each(|name| *parts.entry(part(name)).or_default() += 1);
        let parts: Vec<String> = parts.iter().map(|(part, count)| format!("{part} ({count})")).collect();
        if parts.is_empty() { Ok(()) } else { write!(f, "; not used: {}", parts.join(", ")) }
    }
}

/// The first part of a tensor's name.
fn part(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

impl FrozenEncoder {
    /// The encoder of the model `config` with `weights`, or with initial values drawn from `seed`.
    ///
    /// # Errors
    /// A layer that is missing, has another shape, or is one too many. So is a norm or a class token that the features
    /// depend on: none is invented.
    pub fn open(g: &Gpu, config: &Config, weights: Option<Weights>, seed: u64) -> Result<Self> {
        let reads = weights.as_ref().map_or(Reads::Tokens, |weights| Reads::of(config, weights));
        // an ARM is another network when it is fine-tuned, with a class token among its patches
        let decoded = weights.as_ref().is_some_and(|weights| contents(weights) == Contents::Arm);
        let purpose = match reads {
            Reads::Tokens if config.family != Family::ARM || decoded => Purpose::Pretraining,
            _ => Purpose::Classification,
        };
        let mut params = Params::new(g);
        let backbone = backbone(g, &mut params, config, purpose)?;
        let Some(weights) = weights else {
            params.init(g, seed)?;
            return Ok(Self { params, backbone, left_out: vec![], resized: vec![], reads });
        };
        let adapted = adapt(weights, config, &params, seed)?;
        // without prefix tokens nothing runs that belongs to them
        let idle = ["cls_token", "pos_embed_cls", "neck", "norm_neck"];
        let runs =
            |name: &str| reads != Reads::Tokens || config.family.prefix_in_pretraining || !idle.contains(&part(name));
        let missing: Vec<String> = adapted.fresh.iter().filter(|name| runs(name)).cloned().collect();
        Mismatch { missing, ..Mismatch::default() }.into_result()?;
        params.load(g, &adapted.weights)?;
        let idle = adapted.taken.into_iter().filter(|name| !runs(name));
        let left_out = adapted.ignored.into_iter().chain(idle).collect();
        Ok(Self { params, backbone, left_out, resized: adapted.resized, reads })
    }

    /// A forward program from `batch` images to their features (B, D).
    pub fn program(&self, g: &Gpu, config: &Config, batch: usize) -> Result<InferenceProgram> {
        let (backbone, reads) = (self.backbone.clone(), self.reads);
        InferenceProgram::new(g, config, batch, move |r, patches| {
            if reads != Reads::Tokens {
                return backbone.features(r, patches, None);
            }
            let tokens = backbone.tokens(r, patches, None)?; // (B, L, D)
            reduce::mean_tokens(r, &tokens) // (B, D)
        })
    }
}

//! A backbone and the linear layer that names what it saw.

use super::backbones::Backbone;
use super::config::{Config, DecoderKind};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::backbones::embedding::linear_init;
use crate::nn::{Init, Linear, Params};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// Backbone and head.
#[derive(Debug, Clone)]
pub struct Classifier {
    /// The encoder.
    pub backbone: Backbone,
    head: Option<Linear>,
}

/// What a classifier says.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// Features of the whole sequence (B, L+n, D), in scan order.
    pub sequence: Var,
    /// What the head reads (B, F).
    pub features: Var,
    /// Scores (B, classes); the features themselves where there is no head.
    pub logits: Var,
}

impl Classifier {
    /// Parameters under their official names; no `head` for 0 classes.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let backbone = Backbone::new(g, params, config)?;
        if config.features() == 0 {
            return Err(Error::argument("registers", 0, "at least 1 for a classifier, or the pool average"));
        }
        Ok(Self { backbone, head: head(params, config)? })
    }

    /// All patch rows (B, L, P·P·3), raster order → features and scores. Rows of `drop_path` are DropPath's draws, one per place
    /// of [`Config::drop_path_rates`].
    pub fn forward(&self, g: &Gpu, t: &mut Tape, patches: &Var, drop_path: Option<&Tensor>) -> Result<Prediction> {
        let sequence = self.backbone.sequence(g, t, patches, drop_path)?; // (B, L+n, D)
        let features = self.backbone.pool(g, t, &sequence)?; // (B, F)
        let _scope = g.scope("head");
        let logits = match &self.head {
            Some(head) => head.forward(g, t, &features)?, // (B, classes)
            None => features.clone(),
        };
        Ok(Prediction { sequence, features, logits })
    }
}

/// `head` (classes, F), if there are classes.
pub(crate) fn head(params: &mut Params, config: &Config) -> Result<Option<Linear>> {
    let (features, classes) = (config.features(), config.classes);
    // MAE's recipe for an encoder that it pretrained: scores start next to zero
    let init = if config.decoder.kind == DecoderKind::Mae { Init::TruncNormal(2e-5) } else { linear_init(config) };
    (features > 0 && classes > 0).then(|| Linear::new(params, "head", features, classes, init)).transpose()
}

/// The layer of a parameter for layer-wise decay, and the last layer: 0 are the embeddings, k + 1 is the k-th layer in the
/// order of execution, the last the norm and head behind them. MAE scales the learning rate by decay^(last − id).
pub fn layer_of(config: &Config, name: &str) -> (usize, usize) {
    let last = config.pattern.len() + 1;
    let embedding = ["patch_embed.", "pos_embed", "cls_token"].iter().any(|prefix| name.starts_with(prefix));
    if embedding {
        return (0, last); // pos_embed_cls too
    }
    let nth = |prefix: &str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
    // all blocks of a ViT are T; in a hybrid both kinds are counted by themselves
    let place = |letter: char, n: usize| config.pattern.char_indices().filter(|(_, c)| *c == letter).nth(n);
    let found = match (nth("layers."), nth("blocks.")) {
        (Some(n), _) => place('M', n),
        (_, Some(n)) => place('T', n),
        _ => None,
    };
    (found.map_or(last, |(i, _)| i + 1), last)
}

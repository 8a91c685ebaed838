//! An image classifier: a backbone and a linear head.

use super::backbones::encoder::Purpose;
use super::backbones::{Backbone, backbone};
use super::config::Config;
use super::options::DecoderKind;
use super::point_head::PointHead;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::nn::{Init, Linear, Params};
use crate::ops::dropout::dropout;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Backbone and head: timm's image models.
#[derive(Debug, Clone)]
pub struct Classifier {
    /// The encoder.
    pub backbone: Backbone,
    head: Option<Head>,
    /// The row of the factors where those of dropout begin; `None` without dropout.
    dropout: Option<usize>,
    /// Features of a sample that dropout may drop.
    dropped_features: usize,
}

/// What makes scores of features.
#[derive(Debug, Clone)]
enum Head {
    Linear(Linear),
    Points(Box<PointHead>),
}

/// The output of a classifier.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// Features of the whole sequence (B, L+n, D), in scan order.
    pub sequence: Var,
    /// What the head reads (B, F).
    pub features: Var,
    /// Scores (B, classes), PyTorch's logits. The features themselves where there is no head.
    pub logits: Var,
}

impl Classifier {
    /// Parameters under their official names; no `head` for 0 classes.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let backbone = backbone(g, params, config, Purpose::Classification)?;
        if config.features() == 0 {
            return Err(Error::argument("registers", 0, "at least 1 for a classifier, or the pool average"));
        }
        let dropout = (config.dropout > 0.0).then(|| config.drop_path_places().len());
        let head = match config.family.clouds && config.classes > 0 {
            true => Some(Head::Points(Box::new(PointHead::new(params, config)?))),
            false => head(params, config)?.map(Head::Linear),
        };
        Ok(Self { backbone, head, dropout, dropped_features: config.dropped_features() })
    }

    /// All patches (B, L, P·P·3) in raster order → features and scores. `drop_path` has DropPath's factors, a row for
    /// each place of [`Config::drop_path_rates`].
    pub fn forward(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Prediction> {
        let sequence = self.backbone.sequence(r, patches, drop_path)?; // (B, L+n, D)
        let features = self.backbone.pool(r, &sequence)?; // (B, F)
        let logits = match &self.head {
            Some(Head::Linear(head)) => r.scope(&head.name, |r| {
                let seen = match self.dropped(drop_path, features.data.len())? {
                    Some(factors) => dropout(r, &features, &factors.reshape(features.data.shape())?)?,
                    None => features.clone(),
                };
                head.forward(r, &seen) // (B, classes)
            })?,
            Some(Head::Points(head)) => {
                let [b, _] = features.data.dims("features")?;
                let each = b * self.dropped_features / 2; // of one of two layers
                let factors = self.dropped(drop_path, PointHead::factors_at(2, each))?;
                head.forward(r, &features, factors.as_ref())?
            }
            None => features.clone(),
        };
        Ok(Prediction { sequence, features, logits })
    }

    /// Dropout's factors of `count` features, 0 or 1/(1 − p) each: the first numbers behind the rows of DropPath.
    fn dropped(&self, drop_path: Option<&Tensor>, count: usize) -> Result<Option<Tensor>> {
        let (Some(row), Some(factors)) = (self.dropout, drop_path) else { return Ok(None) };
        let [_, stride] = factors.dims("drop_path")?;
        factors.range(row * stride, &[count]).map(Some)
    }
}

/// The head (classes, F) under the family's name for it, if there are classes.
pub(crate) fn head(params: &mut Params, config: &Config) -> Result<Option<Linear>> {
    let (features, classes) = (config.features(), config.classes);
    // MAE's fine-tuning recipe: scores start next to zero
    let init = if config.decoder.kind == DecoderKind::Mae {
        Init::TruncNormal(2e-5)
    } else {
        (config.family.head_init)(config)
    };
    (features > 0 && classes > 0).then(|| Linear::new(params, config.family.head, features, classes, init)).transpose()
}

/// (id of the layer that a parameter belongs to, the last id) for layer-wise learning rate decay, as in MAE's
/// `get_layer_id_for_vit`. Id 0 are the embeddings, k + 1 is layer k in the order in which layers run, and the last id
/// are the norm and head behind them. The rate is multiplied by decay^(last − id).
pub fn layer_of(config: &Config, name: &str) -> (usize, usize) {
    let last = config.layers() + 1;
    if config.family.embedding.iter().any(|prefix| name.starts_with(prefix)) {
        return (0, last);
    }
    ((config.family.layer)(config, name).map_or(last, |k| k + 1), last)
}

//! The classifier of point clouds: encoder, pooling and head.

use std::sync::Arc;

use super::config::{PointConfig, PointMixers};
use super::encoder::{LINEAR, PointBatch, PointEncoder};
use crate::error::Result;
use crate::nn::{BatchNorm, BatchNormConfig, Linear, Params};
use crate::ops::add::add;
use crate::ops::batch_norm::BatchNormAct;
use crate::ops::concat::{concat, narrow};
use crate::ops::dropout::dropout;
use crate::ops::pool::{Windows, max_pool};
use crate::ops::reduce::mean_tokens;
use crate::ops::registers::{Places, extract, insert, rest};
use crate::ops::reshape::reshape;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// A hidden layer of the head: linear, batch norm, ReLU, dropout.
#[derive(Debug, Clone)]
struct Hidden {
    linear: Linear,
    norm: BatchNorm,
}

impl Hidden {
    fn forward(&self, r: &mut Recorder, x: &Var, factors: Option<&Tensor>) -> Result<Var> {
        let y = r.scope(&self.linear.name, |r| self.linear.forward(r, x))?;
        let y = r.scope(&self.norm.name, |r| self.norm.forward_act(r, &y, BatchNormAct::Relu))?;
        factors.map_or_else(|| Ok(y.clone()), |factors| dropout(r, &y, factors))
    }
}

/// Encoder and head of Mamba3D, the HybridNet or Point-MAE.
#[derive(Debug, Clone)]
pub struct PointClassifier {
    encoder: PointEncoder,
    hidden: [Hidden; 2],
    last: Linear,
    name: Arc<str>,
    mean_too: bool,
    mean_pool_bug: bool,
}

/// The output of a classifier.
#[derive(Debug, Clone)]
pub struct PointPrediction {
    /// What the head reads (B, 2D).
    pub features: Var,
    /// Scores (B, classes).
    pub logits: Var,
}

impl PointClassifier {
    /// Parameters of the encoder, and `cls_head_finetune.{0,1,4,5,8}`.
    pub fn new(params: &mut Params, config: &PointConfig) -> Result<Self> {
        let encoder = PointEncoder::new(params, config, true)?;
        params.scope("cls_head_finetune", |p| {
            let hidden = |p: &mut Params, [linear, norm]: [&str; 2], inputs: usize| -> Result<Hidden> {
                Ok(Hidden {
                    linear: Linear::new(p, linear, inputs, config.head_hidden, LINEAR)?,
                    norm: BatchNorm::new(p, norm, config.head_hidden, BatchNormConfig::default())?,
                })
            };
            Ok(Self {
                encoder,
                hidden: [hidden(p, ["0", "1"], 2 * config.width)?, hidden(p, ["4", "5"], config.head_hidden)?],
                last: Linear::new(p, "8", config.head_hidden, config.classes, LINEAR)?,
                name: p.path(),
                mean_too: config.mixers != PointMixers::Transformer,
                mean_pool_bug: config.mean_pool_bug,
            })
        })
    }

    /// The encoder.
    pub fn encoder(&self) -> &PointEncoder {
        &self.encoder
    }

    /// Clouds → scores. `drop_path` as in [`PointEncoder::encode`]; `dropout` has the factors (B, hidden) of both hidden
    /// layers.
    pub fn forward(
        &self, r: &mut Recorder, batch: &PointBatch, drop_path: Option<&Tensor>, dropout: Option<[&Tensor; 2]>,
    ) -> Result<PointPrediction> {
        let tokens = self.encoder.tokens(r, &batch.patches)?;
        let neighbors = batch.neighbors.as_ref();
        let x = self.encoder.encode(r, &tokens, &batch.centers, neighbors, true, drop_path)?; // (B, 1 + G, D)
        let features = self.pool(r, &x)?;
        let [first, second] = dropout.map_or([None; 2], |factors| factors.map(Some));
        let logits = r.scope(&self.name, |r| {
            let y = self.hidden[0].forward(r, &features, first)?;
            let y = self.hidden[1].forward(r, &y, second)?;
            self.last.forward(r, &y)
        })?;
        Ok(PointPrediction { features, logits })
    }

    /// Features of all tokens (B, 1 + G, D) → those of the class token beside the maximum of the patches, or maximum and
    /// mean together, (B, 2D).
    fn pool(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        let [b, tokens, d] = x.data.dims("tokens")?;
        let class = extract(r, x, Places::front())?;
        let patches = rest(r, x, Places::front())?; // (B, G, D)
        let count = tokens - 1;
        let columns = reshape(r, &patches, &[b, count, 1, d])?;
        let most = max_pool(r, &columns, Windows { kernel: [count, 1], stride: [count, 1], padding: [0; 2] })?;
        let mut pooled = reshape(r, &most, &[b, d])?;
        if self.mean_too {
            let mut mean = mean_tokens(r, &patches)?; // (B, D)
            if self.mean_pool_bug {
                // the first cloud's mean, for each cloud: as a register of all samples
                let all = reshape(r, &mean, &[1, b * d])?;
                let first = narrow(r, &all, 0, d)?;
                let first = reshape(r, &first, &[1, 1, d])?;
                let own = reshape(r, &mean, &[b, 1, d])?;
                let both = insert(r, &own, &first, Places::front())?;
                let first = extract(r, &both, Places::front())?;
                mean = reshape(r, &first, &[b, d])?;
            }
            pooled = add(r, &pooled, &mean)?;
        }
        let class = reshape(r, &class, &[b, d])?;
        concat(r, &[&class, &pooled])
    }
}

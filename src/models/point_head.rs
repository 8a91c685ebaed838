//! The head of classifiers of point clouds: two hidden layers with batch norm, ReLU and dropout.

use super::backbones::points::LINEAR;
use super::config::Config;
use crate::error::Result;
use crate::nn::{BatchNorm, BatchNormConfig, Linear, Params};
use crate::ops::batch_norm::BatchNormAct;
use crate::ops::dropout::dropout;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// `cls_head_finetune` of Point-MAE and Mamba3D.
#[derive(Debug, Clone)]
pub struct PointHead {
    hidden: [(Linear, BatchNorm); 2],
    last: Linear,
}

impl PointHead {
    /// Parameters `cls_head_finetune.{0,1,4,5,8}`.
    pub fn new(params: &mut Params, config: &Config) -> Result<Self> {
        let width = config.points()?.head_hidden;
        params.scope(config.family.head, |p| {
            let hidden = |p: &mut Params, [linear, norm]: [&str; 2], inputs: usize| -> Result<_> {
                let linear = Linear::new(p, linear, inputs, width, LINEAR)?;
                Ok((linear, BatchNorm::new(p, norm, width, BatchNormConfig::default())?))
            };
            Ok(Self {
                hidden: [hidden(p, ["0", "1"], config.features())?, hidden(p, ["4", "5"], width)?],
                last: Linear::new(p, "8", width, config.classes, LINEAR)?,
            })
        })
    }

    /// Where the dropout's factors of hidden layer `i` begin: at a multiple of 64, as a range of a tensor must. There
    /// are `each` = B·hidden of them.
    pub fn factors_at(i: usize, each: usize) -> usize {
        i * each.next_multiple_of(64)
    }

    /// Features (B, F) → scores (B, classes). `factors` are dropout's, of each hidden layer from
    /// [`PointHead::factors_at`] on.
    pub fn forward(&self, r: &mut Recorder, features: &Var, factors: Option<&Tensor>) -> Result<Var> {
        let mut x = features.clone();
        for (i, (linear, norm)) in self.hidden.iter().enumerate() {
            let linear = if r.is_training() { linear.before_batch_norm() } else { linear.clone() };
            x = r.scope(&linear.name, |r| linear.forward(r, &x))?;
            x = r.scope(&norm.name, |r| norm.forward_act(r, &x, BatchNormAct::Relu))?;
            if let Some(factors) = factors {
                let each = x.data.len();
                x = dropout(r, &x, &factors.range(Self::factors_at(i, each), x.data.shape())?)?;
            }
        }
        r.scope(&self.last.name, |r| self.last.forward(r, &x))
    }
}

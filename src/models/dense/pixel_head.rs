//! What heads that score pixels have in common: mmsegmentation's convolutions, classifiers, auxiliary head and losses.

use crate::error::Result;
use crate::gpu::DType;
use crate::nn::{BatchNormConfig, Conv2d, ConvConfig, ConvNorm, Init, Params};
use crate::ops::add::add;
use crate::ops::batch_norm::BatchNormAct;
use crate::ops::concat::concat;
use crate::ops::dropout::dropout;
use crate::ops::pixel_loss::{PixelMean, pixel_cross_entropy};
use crate::ops::scale::scale;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Convolution, batch norm and ReLU: mmcv's `ConvModule`, with parameters `name.conv` and `name.bn`.
pub(super) fn module(
    p: &mut Params, name: &str, [inputs, outputs, kernel]: [usize; 3], norms: BatchNormConfig,
) -> Result<ConvNorm> {
    module_of(p, name, ConvConfig::dense(inputs, outputs, kernel, Init::KaimingFanOut), norms)
}

/// The same of any convolution.
pub(super) fn module_of(p: &mut Params, name: &str, config: ConvConfig, norms: BatchNormConfig) -> Result<ConvNorm> {
    p.scope(name, |p| ConvNorm::new(p, ["conv", "bn"], config, norms, Init::Ones))
}

/// Scores of classes (`conv_seg`).
pub(super) fn classifier(p: &mut Params, inputs: usize, classes: usize) -> Result<Conv2d> {
    let config = ConvConfig { bias: true, ..ConvConfig::dense(inputs, classes, 1, Init::Normal(0.01)) };
    Conv2d::new(p, "conv_seg", config)
}

/// Any number of maps side by side.
pub(super) fn joined(r: &mut Recorder, parts: &[Var]) -> Result<Var> {
    let (first, rest) = parts.split_at(parts.len().min(4));
    let mut all = concat(r, &first.iter().collect::<Vec<_>>())?;
    for more in rest.chunks(3) {
        all = concat(r, &std::iter::once(&all).chain(more).collect::<Vec<_>>())?;
    }
    Ok(all)
}

/// Dropout of whole channels, if there are factors, and the scores.
pub(super) fn scores(r: &mut Recorder, classifier: &Conv2d, features: &Var, factors: Option<&Tensor>) -> Result<Var> {
    match factors {
        Some(factors) => {
            let features = dropout(r, features, factors)?;
            classifier.forward_as(r, &features, DType::F32)
        }
        None => classifier.forward_as(r, features, DType::F32),
    }
}

/// A head that reads the third map alone, in training only: mmsegmentation's `FCNHead` of one convolution.
#[derive(Debug, Clone)]
pub(super) struct Auxiliary {
    conv: ConvNorm,
    classifier: Conv2d,
}

impl Auxiliary {
    /// Parameters `auxiliary_head.{convs.0, conv_seg}`.
    pub fn new(p: &mut Params, [inputs, channels, classes]: [usize; 3], norms: BatchNormConfig) -> Result<Self> {
        p.scope("auxiliary_head", |p| {
            let conv = module(p, "convs.0", [inputs, channels, 3], norms)?;
            Ok(Self { conv, classifier: classifier(p, channels, classes)? })
        })
    }

    /// A map (B, h, w, C) → scores (B, h, w, K). `factors` as in [`scores`].
    pub fn forward(&self, r: &mut Recorder, map: &Var, factors: Option<&Tensor>) -> Result<Var> {
        r.scope("auxiliary_head", |r| {
            let x = self.conv.forward_as(r, map, BatchNormAct::Relu, DType::F32)?;
            scores(r, &self.classifier, &x, factors)
        })
    }
}

/// What a head returns.
#[derive(Debug, Clone)]
pub struct PixelScores {
    /// The pyramid that it reads, from the largest map.
    pub levels: [Var; 4],
    /// Scores (B, h, w, K) of the cells of the largest map.
    pub logits: Var,
    /// The auxiliary head's, of the cells of the third map, in training, if there is one.
    pub auxiliary: Option<Var>,
}

/// The losses of a batch, (1) each.
#[derive(Debug, Clone)]
pub struct SegmentationLosses {
    /// Of the head.
    pub decode: Var,
    /// Of the auxiliary head, without its weight.
    pub auxiliary: Option<Var>,
    /// What is differentiated.
    pub total: Var,
}

/// The losses against `labels` (B, H, W) of u32 at the size of the images; those not below K are ignored. `weight` is
/// that of the auxiliary head.
pub(super) fn losses(
    r: &mut Recorder, scores: &PixelScores, labels: &Tensor, (mean, weight): (PixelMean, f64),
) -> Result<SegmentationLosses> {
    r.scope("loss", |r| {
        let of = |r: &mut Recorder, logits| pixel_cross_entropy(r, logits, labels, mean);
        let decode = of(r, &scores.logits)?;
        let Some(logits) = &scores.auxiliary else {
            return Ok(SegmentationLosses { total: decode.clone(), decode, auxiliary: None });
        };
        let auxiliary = of(r, logits)?;
        let weighted = scale(r, &auxiliary, weight as f32)?;
        let total = add(r, &decode, &weighted)?;
        Ok(SegmentationLosses { decode, auxiliary: Some(auxiliary), total })
    })
}

//! The box heads of Cascade R-CNN (Cai and Vasconcelos 2018), as detectron2's ViTDet has them.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gpu::DType;
use crate::nn::{ConvConfig, ConvLayerNorm, Init, Linear, Params};
use crate::ops::activation::relu;
use crate::ops::add::add;
use crate::ops::box_refine::{BoxStep, RefinedBoxes, refine_boxes};
use crate::ops::conv2d::{Conv2dOptions, conv2d};
use crate::ops::masked_loss::{Divisor, l1};
use crate::ops::pixel_loss::{PixelMean, pixel_cross_entropy};
use crate::ops::reshape::reshape;
use crate::ops::roi_align::{RoiAlignOptions, roi_align};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Sizes of [`CascadeHeads`].
#[derive(Debug, Clone, PartialEq)]
pub struct CascadeConfig {
    /// Channels of the pyramid.
    pub channels: usize,
    /// Channels of the 3×3 convolutions.
    pub width: usize,
    /// 3×3 convolutions of a head.
    pub convs: usize,
    /// Features of the layer behind them.
    pub features: usize,
    /// Classes K of objects; the background is class K.
    pub classes: usize,
    /// Strides of the levels from which boxes are pooled.
    pub strides: Vec<f64>,
    /// How boxes are pooled, to a square. The gradient is set by the number of stages.
    pub pool: RoiAlignOptions,
    /// For each stage the least overlap of an object, and the weights of deltas.
    pub stages: Vec<(f64, [f64; 4])>,
    /// Of layer norms.
    pub eps: f32,
}

impl CascadeConfig {
    /// ViTDet's: three stages on a pyramid of 256 channels.
    pub fn vitdet(classes: usize) -> Self {
        let stage = |overlap: f64, weight: f64| (overlap, [weight, weight, weight / 2.0, weight / 2.0]);
        Self {
            channels: 256,
            width: 256,
            convs: 4,
            features: 1024,
            classes,
            strides: vec![4.0, 8.0, 16.0, 32.0],
            pool: RoiAlignOptions::new([7, 7]),
            stages: vec![stage(0.5, 10.0), stage(0.6, 20.0), stage(0.7, 30.0)],
            eps: 1e-6,
        }
    }
}

/// One stage: convolutions, a layer, and two linear predictors.
#[derive(Debug, Clone)]
struct Head {
    convs: Vec<ConvLayerNorm>,
    /// (features, C, n, n): the layer on all values of a pooled box, by channel, row and column, as PyTorch flattens
    /// them, which is a convolution over all of its cells.
    weight: Var,
    bias: Var,
    name: Arc<str>,
    classes: Linear,
    deltas: Linear,
}

impl Head {
    /// Parameters `box_head.{stage}.{conv1, …, fc1}` and `box_predictor.{stage}.{cls_score, bbox_pred}`.
    fn new(params: &mut Params, stage: usize, c: &CascadeConfig) -> Result<Self> {
        let [n, cols] = c.pool.output;
        let (convs, weight, bias, name) = params.scope(&format!("box_head.{stage}"), |p| {
            let conv = |i: usize, p: &mut Params| {
                let inputs = if i == 1 { c.channels } else { c.width };
                let config = ConvConfig::dense(inputs, c.width, 3, Init::KaimingFanOut);
                ConvLayerNorm::new(p, &format!("conv{i}"), config, c.eps)
            };
            let convs = (1..=c.convs).map(|i| conv(i, p)).collect::<Result<Vec<_>>>()?;
            let width = if c.convs == 0 { c.channels } else { c.width };
            p.scope("fc1", |p| {
                let stored = [c.features, width * n * cols];
                let weight = p.add("weight", &stored, &[c.features, width, n, cols], Init::FanIn(3f32.sqrt()))?;
                Ok((convs, weight, p.add("bias", &[c.features], &[c.features], Init::Zeros)?, p.path()))
            })
        })?;
        params.scope(&format!("box_predictor.{stage}"), |p| {
            let classes = Linear::new(p, "cls_score", c.features, c.classes + 1, Init::Normal(0.01))?;
            let deltas = Linear::new(p, "bbox_pred", c.features, 4, Init::Normal(0.001))?;
            Ok(Self { convs, weight, bias, name, classes, deltas })
        })
    }

    /// Pooled boxes (R, n, n, C) → scores (R, K + 1) and deltas (R, 4).
    fn forward(&self, r: &mut Recorder, pooled: &Var) -> Result<[Var; 2]> {
        let mut x = pooled.clone();
        for conv in &self.convs {
            x = conv.forward(r, &x)?;
            x = relu(r, &x)?;
        }
        let features = r.scope(&self.name, |r| {
            let [_, rows, cols, _] = x.data.dims("pooled boxes")?;
            // the one window is the whole map: a stride of its size says so, and a pixel's gradient is of one tap
            let stride = [rows, cols].map(|side| side.min(8));
            let options = Conv2dOptions { bias: Some(&self.bias), stride, ..Conv2dOptions::default() };
            let y = conv2d(r, &x, &self.weight, options)?; // (R, 1, 1, features)
            let (rows, columns) = y.data.rows_cols();
            let y = reshape(r, &y, &[rows, columns])?;
            relu(r, &y)
        })?;
        let of =
            |r: &mut Recorder, layer: &Linear| r.scope(&layer.name, |r| layer.forward_as(r, &features, DType::F32));
        Ok([of(r, &self.classes)?, of(r, &self.deltas)?])
    }
}

/// What a stage says of its boxes.
#[derive(Debug, Clone)]
pub struct StageScores {
    /// The boxes from the pyramid (R, n, n, C).
    pub pooled: Var,
    /// Scores of classes (R, K + 1); the last is the background.
    pub logits: Var,
    /// Deltas (R, 4), times the stage's weights.
    pub deltas: Var,
}

/// A stage in training.
#[derive(Debug, Clone)]
pub struct CascadeStage {
    /// Its boxes, and what it should say of them.
    pub targets: RefinedBoxes,
    /// What it says.
    pub scores: StageScores,
    /// The losses of classes and of deltas, (1) each.
    pub losses: [Var; 2],
}

/// Heads that refine boxes one after the other, each trained on the boxes that the one before leaves.
#[derive(Debug, Clone)]
pub struct CascadeHeads {
    heads: Vec<Head>,
    config: CascadeConfig,
}

impl CascadeHeads {
    /// Parameters `box_head` and `box_predictor`, as in detectron2's `roi_heads`.
    ///
    /// # Errors
    /// If there are no stages.
    pub fn new(params: &mut Params, config: &CascadeConfig) -> Result<Self> {
        if config.stages.is_empty() {
            return Err(Error::argument("cascade: stages", 0, "at least 1"));
        }
        let heads = (0..config.stages.len()).map(|stage| Head::new(params, stage, config)).collect::<Result<_>>()?;
        Ok(Self { heads, config: config.clone() })
    }

    /// What stage `i` says of the boxes (R, 5) on maps (B, h, w, C), one for each stride.
    fn stage(&self, r: &mut Recorder, i: usize, maps: &[Var], rois: &Tensor) -> Result<StageScores> {
        let levels: Vec<(&Var, f64)> = maps.iter().zip(self.config.strides.iter().copied()).collect();
        // so that the pyramid hears of all stages as loudly as of one
        let pool = RoiAlignOptions { gradient: 1.0 / self.heads.len() as f32, ..self.config.pool };
        let pooled = r.scope("box_pooler", |r| roi_align(r, &levels, rois, pool))?;
        let [logits, deltas] = self.heads[i].forward(r, &pooled)?;
        Ok(StageScores { pooled, logits, deltas })
    }

    /// All stages in training, and the sum of their losses. `first` are the sampled boxes, in a fixed number of rows of
    /// which some are not valid. `sizes` (B, 2) are rows and columns of the pictures, `truths` (B, G, 5) boxes and
    /// classes, below 0 where there is none.
    ///
    /// Losses are divided by the valid boxes of all pictures in the stage.
    pub fn train(
        &self, r: &mut Recorder, maps: &[Var], first: &RefinedBoxes, sizes: &Tensor, truths: &Tensor,
    ) -> Result<(Vec<CascadeStage>, Var)> {
        let (mut stages, mut total, mut targets): (_, Option<Var>, _) = (Vec::new(), None, first.clone());
        for i in 0..self.heads.len() {
            let scores = self.stage(r, i, maps, &targets.rois)?;
            let [rows, classes] = scores.logits.data.dims("scores")?;
            let losses = r.scope("loss", |r| {
                let list = reshape(r, &scores.logits, &[1, 1, rows, classes])?;
                let labels = targets.labels.reshape(&[1, 1, rows])?;
                let kinds = pixel_cross_entropy(r, &list, &labels, PixelMean::Labeled)?;
                let valid = Divisor::Times(1.0, &targets.valid);
                Ok([kinds, l1(r, &scores.deltas, &targets.targets, &targets.foreground, valid)?])
            })?;
            let sum = add(r, &losses[0], &losses[1])?;
            total = Some(match total {
                Some(total) => add(r, &total, &sum)?,
                None => sum,
            });
            let next = match self.config.stages.get(i + 1) {
                Some((threshold, next)) => {
                    let step = self.step(i, *threshold, *next);
                    let deltas = &scores.deltas.data;
                    Some(refine_boxes(r, &targets.rois, deltas, sizes, &targets.valid, Some(truths), step)?)
                }
                None => None,
            };
            stages.push(CascadeStage { targets: targets.clone(), scores, losses });
            targets = next.unwrap_or(targets);
        }
        let total = total.ok_or_else(|| Error::argument("cascade: stages", 0, "at least 1"))?;
        Ok((stages, total))
    }

    /// The step behind stage `i`.
    fn step(&self, i: usize, threshold: f64, next: [f64; 4]) -> BoxStep {
        BoxStep { weights: self.config.stages[i].1, next, threshold, background: self.config.classes }
    }

    /// All stages in evaluation: the scores (R, K + 1) of each, whose probabilities are averaged, and the boxes (R, 5)
    /// that the last one leaves, clipped to their picture.
    pub fn infer(
        &self, r: &mut Recorder, maps: &[Var], rois: &Tensor, valid: &Tensor, sizes: &Tensor,
    ) -> Result<(Vec<Var>, Tensor)> {
        let (mut logits, mut rois) = (Vec::new(), rois.clone());
        for i in 0..self.heads.len() {
            let scores = self.stage(r, i, maps, &rois)?;
            let deltas = &scores.deltas.data;
            let step = self.step(i, 1.0, [1.0; 4]); // without truths nothing is matched
            rois = refine_boxes(r, &rois, deltas, sizes, valid, None, step)?.rois;
            logits.push(scores.logits);
        }
        Ok((logits, rois))
    }
}

//! The mask head of Mask R-CNN (He et al. 2017), as detectron2's ViTDet has it.

use crate::error::Result;
use crate::gpu::DType;
use crate::nn::{Conv2d, ConvConfig, ConvLayerNorm, Deconv, Init, Params};
use crate::ops::activation::relu;
use crate::ops::masked_loss::{Divisor, bce_with_logits};
use crate::ops::pick::pick;
use crate::ops::roi_align::{RoiAlignOptions, roi_align};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Sizes of a [`MaskHead`].
#[derive(Debug, Clone, PartialEq)]
pub struct MaskHeadConfig {
    /// Channels of the pyramid.
    pub channels: usize,
    /// Channels of the convolutions.
    pub width: usize,
    /// 3×3 convolutions.
    pub convs: usize,
    /// Classes K.
    pub classes: usize,
    /// Strides of the levels from which boxes are pooled.
    pub strides: Vec<f64>,
    /// How boxes are pooled. A mask has twice the sides.
    pub pool: RoiAlignOptions,
    /// Of layer norms.
    pub eps: f32,
}

impl MaskHeadConfig {
    /// ViTDet's: masks of 28×28 from a pyramid of 256 channels.
    pub fn vitdet(classes: usize) -> Self {
        Self {
            channels: 256,
            width: 256,
            convs: 4,
            classes,
            strides: vec![4.0, 8.0, 16.0, 32.0],
            pool: RoiAlignOptions::new([14, 14]),
            eps: 1e-6,
        }
    }
}

/// Says of each cell of a box whether it belongs to the object, for each class it may have.
#[derive(Debug, Clone)]
pub struct MaskHead {
    convs: Vec<ConvLayerNorm>,
    deconv: Deconv,
    predictor: Conv2d,
    config: MaskHeadConfig,
}

impl MaskHead {
    /// Parameters `mask_head.{mask_fcn1, …, deconv, predictor}`, as in detectron2's `roi_heads`.
    pub fn new(params: &mut Params, config: &MaskHeadConfig) -> Result<Self> {
        params.scope("mask_head", |p| {
            let width = if config.convs == 0 { config.channels } else { config.width };
            let conv = |i: usize, p: &mut Params| {
                let inputs = if i == 1 { config.channels } else { width };
                let conv = ConvConfig::dense(inputs, width, 3, Init::KaimingFanOut);
                ConvLayerNorm::new(p, &format!("mask_fcn{i}"), conv, config.eps)
            };
            let convs = (1..=config.convs).map(|i| conv(i, p)).collect::<Result<_>>()?;
            let deconv = Deconv::new(p, "deconv", width, config.width, Init::KaimingFanOut)?;
            let last = ConvConfig::dense(config.width, config.classes, 1, Init::Normal(0.001));
            let predictor = Conv2d::new(p, "predictor", ConvConfig { bias: true, ..last })?;
            Ok(Self { convs, deconv, predictor, config: config.clone() })
        })
    }

    /// Masks of boxes (R, 5) of these classes (R), on maps (B, h, w, C), one for each stride: scores (R, M, M), above 0
    /// inside. A class that is not below K has scores of 0.
    pub fn forward(&self, r: &mut Recorder, maps: &[Var], rois: &Tensor, classes: &Tensor) -> Result<Var> {
        let levels: Vec<(&Var, f64)> = maps.iter().zip(self.config.strides.iter().copied()).collect();
        let mut x = r.scope("mask_pooler", |r| roi_align(r, &levels, rois, self.config.pool))?;
        for conv in &self.convs {
            x = conv.forward(r, &x)?;
            x = relu(r, &x)?;
        }
        let x = self.deconv.forward(r, &x)?;
        let x = relu(r, &x)?;
        let masks = self.predictor.forward_as(r, &x, DType::F32)?; // (R, M, M, K)
        r.scope(&self.predictor.name, |r| pick(r, &masks, classes))
    }

    /// The loss (1) of masks (R, M, M) against `targets` of 0 and 1, over the boxes whose `valid` (R) is 1; 0 if there
    /// are none.
    pub fn loss(&self, r: &mut Recorder, masks: &Var, targets: &Tensor, valid: &Tensor) -> Result<Var> {
        let cells = masks.data.len() / valid.len().max(1);
        r.scope("loss", |r| bce_with_logits(r, masks, targets, valid, Divisor::Times(cells as f64, valid)))
    }
}

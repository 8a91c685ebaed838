//! DeepLab v3+ (Chen et al. 2018) on a backbone whose last maps have stride 8: mmsegmentation's
//! `DepthwiseSeparableASPPHead`.

use super::pixel_head::{
    Auxiliary, PixelScores, SegmentationLosses, classifier, joined, losses, module, module_of, scores,
};
use crate::error::{Error, Result};
use crate::gpu::DType;
use crate::nn::{BatchNormConfig, Conv2d, ConvConfig, ConvNorm, Init, Params};
use crate::ops::batch_norm::BatchNormAct;
use crate::ops::concat::concat;
use crate::ops::pixel_loss::PixelMean;
use crate::ops::resample::{adaptive_average, bilinear};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Sizes of a [`DeepLab`].
#[derive(Debug, Clone, PartialEq)]
pub struct DeepLabConfig {
    /// Channels of the backbone's maps.
    pub widths: [usize; 4],
    /// Channels C of the head.
    pub channels: usize,
    /// Channels to which the decoder brings the first map.
    pub projection: usize,
    /// Dilations of the spatial pyramid. One of 1 is a 1×1 convolution, and the others are 3×3 and depthwise separable.
    pub dilations: Vec<usize>,
    /// Channels of the auxiliary head, if there is one.
    pub auxiliary: Option<usize>,
    /// Classes K.
    pub classes: usize,
    /// Weight of the auxiliary loss.
    pub auxiliary_weight: f64,
    /// What losses are divided by.
    pub mean: PixelMean,
    /// Of all batch norms.
    pub norms: BatchNormConfig,
}

impl DeepLabConfig {
    /// mmsegmentation's `deeplabv3plus_r101-d8`: 512 channels, rates 12, 24 and 36 at stride 8, 48 channels of the
    /// first map, and an auxiliary head of 256 channels, whose loss counts 0.4.
    pub fn new(widths: [usize; 4], classes: usize) -> Self {
        Self {
            widths,
            channels: 512,
            projection: 48,
            dilations: vec![1, 12, 24, 36],
            auxiliary: Some(256),
            classes,
            auxiliary_weight: 0.4,
            mean: PixelMean::All,
            norms: BatchNormConfig::default(),
        }
    }
}

/// A 1×1 convolution with batch norm and ReLU. In mmcv's `DepthwiseSeparableConvModule` a depthwise 3×3 one with its
/// own norm and ReLU is in front.
#[derive(Debug, Clone)]
struct Branch {
    depthwise: Option<ConvNorm>,
    pointwise: ConvNorm,
}

impl Branch {
    /// Parameters `name.{conv, bn}`.
    fn plain(p: &mut Params, name: &str, [inputs, outputs]: [usize; 2], norms: BatchNormConfig) -> Result<Self> {
        Ok(Self { depthwise: None, pointwise: module(p, name, [inputs, outputs, 1], norms)? })
    }

    /// Parameters `name.{depthwise_conv, pointwise_conv}`.
    fn separable(
        p: &mut Params, name: &str, [inputs, outputs, dilation]: [usize; 3], norms: BatchNormConfig,
    ) -> Result<Self> {
        let depthwise = ConvConfig::depthwise(inputs, 3, Init::KaimingFanOut).dilated(dilation);
        p.scope(name, |p| {
            Ok(Self {
                depthwise: Some(module_of(p, "depthwise_conv", depthwise, norms)?),
                pointwise: module(p, "pointwise_conv", [inputs, outputs, 1], norms)?,
            })
        })
    }

    fn forward_as(&self, r: &mut Recorder, x: &Var, dtype: DType) -> Result<Var> {
        let act = BatchNormAct::Relu;
        match &self.depthwise {
            Some(depthwise) => {
                let x = depthwise.forward(r, x, act)?;
                self.pointwise.forward_as(r, &x, act, dtype)
            }
            None => self.pointwise.forward_as(r, x, act, dtype),
        }
    }
}

/// The head: pooled image and spatial pyramid on the last map, then the decoder on the first.
#[derive(Debug, Clone)]
struct Decoder {
    image: ConvNorm,
    pyramid: Vec<Branch>,
    bottleneck: ConvNorm,
    projection: ConvNorm,
    last: [Branch; 2],
    classifier: Conv2d,
}

impl Decoder {
    fn new(p: &mut Params, c: &DeepLabConfig) -> Result<Self> {
        let ([first, .., last], wide, norms) = (c.widths, c.channels, c.norms);
        let branch = |(i, dilation): (usize, &usize), p: &mut Params| {
            let name = format!("aspp_modules.{i}");
            match *dilation {
                1 => Branch::plain(p, &name, [last, wide], norms),
                apart => Branch::separable(p, &name, [last, wide, apart], norms),
            }
        };
        Ok(Self {
            image: module(p, "image_pool.1", [last, wide, 1], norms)?,
            pyramid: c.dilations.iter().enumerate().map(|pair| branch(pair, p)).collect::<Result<_>>()?,
            bottleneck: module(p, "bottleneck", [(c.dilations.len() + 1) * wide, wide, 3], norms)?,
            projection: module(p, "c1_bottleneck", [first, c.projection, 1], norms)?,
            last: [
                Branch::separable(p, "sep_bottleneck.0", [wide + c.projection, wide, 1], norms)?,
                Branch::separable(p, "sep_bottleneck.1", [wide, wide, 1], norms)?,
            ],
            classifier: classifier(p, wide, c.classes)?,
        })
    }

    fn forward(&self, r: &mut Recorder, [first, .., last]: &[Var; 4], factors: Option<&Tensor>) -> Result<Var> {
        let act = BatchNormAct::Relu;
        let size = |map: &Var| [map.data.shape()[1], map.data.shape()[2]];
        let image = adaptive_average(r, last, [1; 2])?;
        let image = self.image.forward_as(r, &image, act, last.data.dtype())?;
        let mut parts = vec![bilinear(r, &image, size(last), false)?];
        for branch in &self.pyramid {
            parts.push(branch.forward_as(r, last, last.data.dtype())?);
        }
        let x = joined(r, &parts)?;
        let x = self.bottleneck.forward_as(r, &x, act, first.data.dtype())?;
        let fine = self.projection.forward_as(r, first, act, first.data.dtype())?;
        let x = bilinear(r, &x, size(first), false)?;
        let x = concat(r, &[&x, &fine])?;
        let [one, two] = &self.last;
        let x = one.forward_as(r, &x, first.data.dtype())?;
        let features = two.forward_as(r, &x, DType::F32)?;
        scores(r, &self.classifier, &features, factors)
    }
}

/// The segmentation network behind a backbone.
///
/// Branches of different dilations, and the mean of the image, join on the last map. The decoder adds the first map, of
/// stride 4, and scores each of its cells.
#[derive(Debug, Clone)]
pub struct DeepLab {
    decoder: Decoder,
    auxiliary: Option<Auxiliary>,
    config: DeepLabConfig,
}

impl DeepLab {
    /// Parameters `decode_head` and `auxiliary_head`, as in mmsegmentation.
    pub fn new(params: &mut Params, config: &DeepLabConfig) -> Result<Self> {
        if config.dilations.is_empty() || config.classes == 0 {
            let got = format!("{:?} and {}", config.dilations, config.classes);
            return Err(Error::argument("deeplab: dilations and classes", got, "at least one of each"));
        }
        let decoder = params.scope("decode_head", |p| Decoder::new(p, config))?;
        let inputs = config.widths[2];
        let auxiliary = |channels| Auxiliary::new(params, [inputs, channels, config.classes], config.norms);
        let auxiliary = config.auxiliary.map(auxiliary).transpose()?;
        Ok(Self { decoder, auxiliary, config: config.clone() })
    }

    /// The backbone's maps (B, h, w, C), the finest first → scores of the cells of the first. `factors` are those of
    /// the dropout of channels in front of both classifiers, (B, C) and (B, auxiliary), 0 or 1/(1 − p) each; without
    /// them nothing is dropped. Runs the auxiliary head in training only.
    ///
    /// # Errors
    /// If maps do not fit, or if a batch of one trains, whose pooled maps of one cell have no variance.
    pub fn forward(&self, r: &mut Recorder, maps: [&Var; 4], factors: [Option<&Tensor>; 2]) -> Result<PixelScores> {
        let levels = maps.map(Var::clone);
        let logits = r.scope("decode_head", |r| self.decoder.forward(r, &levels, factors[0]))?;
        let head = self.auxiliary.as_ref().filter(|_| r.is_training());
        let auxiliary = head.map(|head| head.forward(r, &levels[2], factors[1])).transpose()?;
        Ok(PixelScores { levels, logits, auxiliary })
    }

    /// The losses against `labels` (B, H, W) of u32 at the size of the images; those not below K are ignored.
    pub fn losses(&self, r: &mut Recorder, scores: &PixelScores, labels: &Tensor) -> Result<SegmentationLosses> {
        losses(r, scores, labels, (self.config.mean, self.config.auxiliary_weight))
    }
}

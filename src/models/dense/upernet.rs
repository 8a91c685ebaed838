//! UperNet (Xiao et al. 2018) on a pyramid of maps, or on a backbone of one stride as Vim's segmentation has it.

use super::pixel_head::{Auxiliary, PixelScores, SegmentationLosses, classifier, joined, losses, module, scores};
use crate::error::{Error, Result};
use crate::gpu::DType;
use crate::nn::{BatchNorm, BatchNormConfig, Conv2d, ConvNorm, Deconv, Init, Params};
use crate::ops::activation::gelu;
use crate::ops::add::add;
use crate::ops::batch_norm::BatchNormAct;
use crate::ops::concat::concat;
use crate::ops::pixel_loss::PixelMean;
use crate::ops::pool::{Windows, max_pool};
use crate::ops::resample::{adaptive_average, bilinear};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// The four maps that an [`UperNet`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureMaps {
    /// Of so many channels and of stride 16 each, from four depths of a plain backbone. `fpn1` to `fpn4` make strides 4
    /// to 32 of them.
    Depths(usize),
    /// Of strides 4 to 32 and these channels, as they are.
    Pyramid([usize; 4]),
}

impl FeatureMaps {
    /// Channels that a head on them has by default.
    pub fn channels(self) -> usize {
        match self {
            Self::Depths(width) => width,
            Self::Pyramid(_) => 512,
        }
    }

    /// Channels of the maps of strides 4 to 32.
    fn widths(self) -> [usize; 4] {
        match self {
            Self::Depths(width) => [width; 4],
            Self::Pyramid(widths) => widths,
        }
    }
}

/// Sizes of an [`UperNet`].
#[derive(Debug, Clone, PartialEq)]
pub struct UperNetConfig {
    /// The backbone's maps.
    pub features: FeatureMaps,
    /// Channels C of the head.
    pub channels: usize,
    /// Channels of the auxiliary head, if there is one.
    pub auxiliary: Option<usize>,
    /// Classes K.
    pub classes: usize,
    /// Sides of the bins of the pyramid pooling.
    pub pools: Vec<usize>,
    /// Weight of the auxiliary loss.
    pub auxiliary_weight: f64,
    /// What losses are divided by.
    pub mean: PixelMean,
    /// Of all batch norms.
    pub norms: BatchNormConfig,
}

impl UperNetConfig {
    /// Vim's settings on depths: as many channels as the backbone has. On a pyramid mmsegmentation's: 512. Either has
    /// 256 channels in the auxiliary head, whose loss counts 0.4.
    pub fn new(features: FeatureMaps, classes: usize) -> Self {
        Self {
            features,
            channels: features.channels(),
            auxiliary: Some(256),
            classes,
            pools: vec![1, 2, 3, 6],
            auxiliary_weight: 0.4,
            mean: PixelMean::All,
            norms: BatchNormConfig::default(),
        }
    }
}

/// Maps of four strides from four maps of stride 16: `fpn1` to `fpn4` of Vim's and BEiT's backbones.
#[derive(Debug, Clone)]
struct Levels {
    first: Deconv,
    norm: BatchNorm,
    second: Deconv,
    double: Deconv,
}

impl Levels {
    /// Parameters `fpn1.{0, 1, 3}` and `fpn2.0`.
    fn new(p: &mut Params, width: usize, norms: BatchNormConfig) -> Result<Self> {
        let deconv = |p: &mut Params, name| Deconv::new(p, name, width, width, Init::FanIn(1.0));
        Ok(Self {
            first: deconv(p, "fpn1.0")?,
            norm: BatchNorm::new(p, "fpn1.1", width, norms)?,
            second: deconv(p, "fpn1.3")?,
            double: deconv(p, "fpn2.0")?,
        })
    }

    /// Features (B, h, w, d) of four layers → maps of four, two, one and half the sides.
    fn forward(&self, r: &mut Recorder, features: [&Var; 4]) -> Result<[Var; 4]> {
        // a batch norm follows each, with nothing but a 1×1 convolution between
        let of = |deconv: &Deconv, r: &Recorder| match r.is_training() {
            true => deconv.before_batch_norm(),
            false => deconv.clone(),
        };
        let x = of(&self.first, r).forward(r, features[0])?;
        let x = r.scope(&self.norm.name, |r| {
            let x = self.norm.forward(r, &x)?;
            gelu(r, &x)
        })?;
        let quarter = of(&self.second, r).forward(r, &x)?;
        let half = of(&self.double, r).forward(r, features[1])?;
        let windows = Windows { kernel: [2; 2], stride: [2; 2], padding: [0; 2] };
        let double = r.scope("fpn4", |r| max_pool(r, features[3], windows))?;
        Ok([quarter, half, features[2].clone(), double])
    }
}

/// The head behind the levels: mmsegmentation's `UPerHead`.
#[derive(Debug, Clone)]
struct Decoder {
    laterals: Vec<ConvNorm>,
    pools: Vec<(usize, ConvNorm)>,
    bottleneck: ConvNorm,
    outs: Vec<ConvNorm>,
    joined: ConvNorm,
    classifier: Conv2d,
}

impl Decoder {
    fn new(p: &mut Params, c: &UperNetConfig) -> Result<Self> {
        let ([first, second, third, d], wide) = (c.features.widths(), c.channels);
        let three = |p: &mut Params, name: &str, kernel, inputs: [usize; 3]| {
            let each = |(i, inputs)| module(p, &format!("{name}.{i}"), [inputs, wide, kernel], c.norms);
            inputs.into_iter().enumerate().map(each).collect::<Result<Vec<_>>>()
        };
        let pool = |(i, side): (usize, &usize), p: &mut Params| {
            Ok((*side, module(p, &format!("psp_modules.{i}.1"), [d, wide, 1], c.norms)?))
        };
        Ok(Self {
            laterals: three(p, "lateral_convs", 1, [first, second, third])?,
            pools: c.pools.iter().enumerate().map(|pair| pool(pair, p)).collect::<Result<_>>()?,
            bottleneck: module(p, "bottleneck", [d + c.pools.len() * wide, wide, 3], c.norms)?,
            outs: three(p, "fpn_convs", 3, [wide; 3])?,
            joined: module(p, "fpn_bottleneck", [4 * wide, wide, 3], c.norms)?,
            classifier: classifier(p, wide, c.classes)?,
        })
    }

    fn forward(&self, r: &mut Recorder, levels: &[Var; 4], factors: Option<&Tensor>) -> Result<Var> {
        let act = BatchNormAct::Relu;
        let small = &levels[3];
        let size = |map: &Var| [map.data.shape()[1], map.data.shape()[2]];
        let mut parts = vec![small.clone()];
        for (side, conv) in &self.pools {
            let pooled = adaptive_average(r, small, [*side; 2])?;
            let pooled = conv.forward_as(r, &pooled, act, small.data.dtype())?;
            parts.push(bilinear(r, &pooled, size(small), false)?);
        }
        let joined = joined(r, &parts)?;
        let mut maps = vec![self.bottleneck.forward(r, &joined, act)?];
        for (lateral, level) in self.laterals.iter().zip(levels).rev() {
            let above = bilinear(r, &maps[maps.len() - 1], size(level), false)?;
            let lateral = lateral.forward(r, level, act)?;
            maps.push(add(r, &lateral, &above)?);
        }
        maps.reverse(); // from the largest
        let whole = size(&maps[0]);
        let mut outs = Vec::new();
        for (i, map) in maps.iter().enumerate() {
            let out = match self.outs.get(i) {
                Some(conv) => conv.forward(r, map, act)?,
                None => map.clone(),
            };
            outs.push(bilinear(r, &out, whole, false)?);
        }
        let outs = concat(r, &outs.iter().collect::<Vec<_>>())?;
        let features = self.joined.forward_as(r, &outs, act, DType::F32)?;
        scores(r, &self.classifier, &features, factors)
    }
}

/// The segmentation network behind a backbone.
///
/// Pyramid pooling and a top-down path join four maps of strides 4 to 32, and a 1×1 convolution scores each cell of
/// stride 4. Of a plain backbone four depths become such maps first.
#[derive(Debug, Clone)]
pub struct UperNet {
    levels: Option<Levels>,
    decoder: Decoder,
    auxiliary: Option<Auxiliary>,
    config: UperNetConfig,
}

impl UperNet {
    /// Parameters `decode_head`, `auxiliary_head`, and on depths `backbone.{fpn1, fpn2}`, as in mmsegmentation.
    pub fn new(params: &mut Params, config: &UperNetConfig) -> Result<Self> {
        if config.pools.is_empty() || config.classes == 0 {
            let got = format!("{:?} and {}", config.pools, config.classes);
            return Err(Error::argument("upernet: pools and classes", got, "at least one of each"));
        }
        let levels = match config.features {
            FeatureMaps::Depths(width) => Some(params.scope("backbone", |p| Levels::new(p, width, config.norms))?),
            FeatureMaps::Pyramid(_) => None,
        };
        let decoder = params.scope("decode_head", |p| Decoder::new(p, config))?;
        let inputs = config.features.widths()[2];
        let auxiliary = |channels| Auxiliary::new(params, [inputs, channels, config.classes], config.norms);
        let auxiliary = config.auxiliary.map(auxiliary).transpose()?;
        Ok(Self { levels, decoder, auxiliary, config: config.clone() })
    }

    /// Maps (B, h, w, d) of four depths, or a pyramid → scores. `factors` are those of the dropout of channels in front
    /// of both classifiers, (B, C) and (B, auxiliary), 0 or 1/(1 − p) each; without them nothing is dropped. Runs the
    /// auxiliary head in training only.
    ///
    /// # Errors
    /// If maps do not fit, or if a batch of one trains, whose pooled maps of one cell have no variance.
    pub fn forward(&self, r: &mut Recorder, features: [&Var; 4], factors: [Option<&Tensor>; 2]) -> Result<PixelScores> {
        let levels = match &self.levels {
            Some(levels) => r.scope("backbone", |r| levels.forward(r, features))?,
            None => features.map(Var::clone),
        };
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

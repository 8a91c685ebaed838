//! UperNet (Xiao et al. 2018) on a backbone of one stride, as Vim's segmentation has it.

use crate::error::{Error, Result};
use crate::gpu::DType;
use crate::nn::{BatchNorm, BatchNormConfig, Conv2d, ConvConfig, ConvNorm, Deconv, Init, Params};
use crate::ops::activation::gelu;
use crate::ops::add::add;
use crate::ops::batch_norm::BatchNormAct;
use crate::ops::concat::concat;
use crate::ops::dropout::dropout;
use crate::ops::pixel_loss::{PixelMean, pixel_cross_entropy};
use crate::ops::pool::{Windows, max_pool};
use crate::ops::resample::{adaptive_average, bilinear};
use crate::ops::scale::scale;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Sizes of an [`UperNet`].
#[derive(Debug, Clone, PartialEq)]
pub struct UperNetConfig {
    /// Channels d of the backbone's maps.
    pub width: usize,
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
    /// Vim's settings: as many channels as the backbone has, 256 in the auxiliary head, whose loss counts 0.4.
    pub fn new(width: usize, classes: usize) -> Self {
        Self {
            width,
            channels: width,
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

/// Convolution, batch norm and ReLU: mmcv's `ConvModule`, with parameters `name.conv` and `name.bn`.
fn module(p: &mut Params, name: &str, [inputs, outputs, kernel]: [usize; 3], c: &UperNetConfig) -> Result<ConvNorm> {
    let config = ConvConfig::dense(inputs, outputs, kernel, Init::KaimingFanOut);
    p.scope(name, |p| ConvNorm::new(p, ["conv", "bn"], config, c.norms, Init::Ones))
}

/// Scores of classes (`conv_seg`).
fn classifier(p: &mut Params, inputs: usize, classes: usize) -> Result<Conv2d> {
    let config = ConvConfig { bias: true, ..ConvConfig::dense(inputs, classes, 1, Init::Normal(0.01)) };
    Conv2d::new(p, "conv_seg", config)
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
        let (d, wide) = (c.width, c.channels);
        let three = |p: &mut Params, name: &str, kernel, inputs| {
            (0..3).map(|i| module(p, &format!("{name}.{i}"), [inputs, wide, kernel], c)).collect::<Result<Vec<_>>>()
        };
        let pool = |(i, side): (usize, &usize), p: &mut Params| {
            Ok((*side, module(p, &format!("psp_modules.{i}.1"), [d, wide, 1], c)?))
        };
        Ok(Self {
            laterals: three(p, "lateral_convs", 1, d)?,
            pools: c.pools.iter().enumerate().map(|pair| pool(pair, p)).collect::<Result<_>>()?,
            bottleneck: module(p, "bottleneck", [d + c.pools.len() * wide, wide, 3], c)?,
            outs: three(p, "fpn_convs", 3, wide)?,
            joined: module(p, "fpn_bottleneck", [4 * wide, wide, 3], c)?,
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

/// Any number of maps side by side.
fn joined(r: &mut Recorder, parts: &[Var]) -> Result<Var> {
    let (first, rest) = parts.split_at(parts.len().min(4));
    let mut all = concat(r, &first.iter().collect::<Vec<_>>())?;
    for more in rest.chunks(3) {
        all = concat(r, &std::iter::once(&all).chain(more).collect::<Vec<_>>())?;
    }
    Ok(all)
}

/// Dropout of whole channels, if there are factors, and the scores.
fn scores(r: &mut Recorder, classifier: &Conv2d, features: &Var, factors: Option<&Tensor>) -> Result<Var> {
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
struct Auxiliary {
    conv: ConvNorm,
    classifier: Conv2d,
}

/// The segmentation network behind a backbone.
///
/// Four maps of stride 16, from four depths of the backbone, become a pyramid of strides 4 to 32. Pyramid pooling and a
/// top-down path join them, and a 1×1 convolution scores each cell of stride 4.
#[derive(Debug, Clone)]
pub struct UperNet {
    levels: Levels,
    decoder: Decoder,
    auxiliary: Option<Auxiliary>,
    config: UperNetConfig,
}

/// What an [`UperNet`] returns.
#[derive(Debug, Clone)]
pub struct PixelScores {
    /// The pyramid, from the largest map.
    pub levels: [Var; 4],
    /// Scores (B, 4h, 4w, K).
    pub logits: Var,
    /// The auxiliary head's (B, h, w, K), in training, if there is one.
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

impl UperNet {
    /// Parameters `backbone.{fpn1, fpn2}`, `decode_head` and `auxiliary_head`, as in mmsegmentation.
    pub fn new(params: &mut Params, config: &UperNetConfig) -> Result<Self> {
        if config.pools.is_empty() || config.classes == 0 {
            let got = format!("{:?} and {}", config.pools, config.classes);
            return Err(Error::argument("upernet: pools and classes", got, "at least one of each"));
        }
        let auxiliary = |channels: usize, p: &mut Params| {
            let conv = module(p, "convs.0", [config.width, channels, 3], config)?;
            Ok(Auxiliary { conv, classifier: classifier(p, channels, config.classes)? })
        };
        let auxiliary = |p: &mut Params| config.auxiliary.map(|channels| auxiliary(channels, p)).transpose();
        Ok(Self {
            levels: params.scope("backbone", |p| Levels::new(p, config.width, config.norms))?,
            decoder: params.scope("decode_head", |p| Decoder::new(p, config))?,
            auxiliary: params.scope("auxiliary_head", auxiliary)?,
            config: config.clone(),
        })
    }

    /// Maps (B, h, w, d) of four depths → scores. `factors` are those of the dropout of channels in front of both
    /// classifiers, (B, C) and (B, auxiliary), 0 or 1/(1 − p) each; without them nothing is dropped. Runs the auxiliary
    /// head in training only.
    ///
    /// # Errors
    /// If maps do not fit, or if a batch of one trains, whose pooled maps of one cell have no variance.
    pub fn forward(&self, r: &mut Recorder, features: [&Var; 4], factors: [Option<&Tensor>; 2]) -> Result<PixelScores> {
        let levels = r.scope("backbone", |r| self.levels.forward(r, features))?;
        let logits = r.scope("decode_head", |r| self.decoder.forward(r, &levels, factors[0]))?;
        let auxiliary = |r: &mut Recorder, head: &Auxiliary| {
            let x = head.conv.forward_as(r, &levels[2], BatchNormAct::Relu, DType::F32)?;
            scores(r, &head.classifier, &x, factors[1])
        };
        let head = self.auxiliary.as_ref().filter(|_| r.is_training());
        let auxiliary = head.map(|head| r.scope("auxiliary_head", |r| auxiliary(r, head))).transpose()?;
        Ok(PixelScores { levels, logits, auxiliary })
    }

    /// The losses against `labels` (B, H, W) of u32 at the size of the images; those not below K are ignored.
    pub fn losses(&self, r: &mut Recorder, scores: &PixelScores, labels: &Tensor) -> Result<SegmentationLosses> {
        r.scope("loss", |r| {
            let of = |r: &mut Recorder, logits| pixel_cross_entropy(r, logits, labels, self.config.mean);
            let decode = of(r, &scores.logits)?;
            let Some(logits) = &scores.auxiliary else {
                return Ok(SegmentationLosses { total: decode.clone(), decode, auxiliary: None });
            };
            let auxiliary = of(r, logits)?;
            let weighted = scale(r, &auxiliary, self.config.auxiliary_weight as f32)?;
            let total = add(r, &decode, &weighted)?;
            Ok(SegmentationLosses { decode, auxiliary: Some(auxiliary), total })
        })
    }
}

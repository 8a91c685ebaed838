//! One step of a segmentation run: images and labels go in, the weights move, the loss comes out.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::dense::{Dense, Segmentation};
use crate::models::{Config, Segmenter};
use crate::nn::Params;
use crate::ops::rng;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;
use crate::train::dense_recipes::by_block;
use crate::train::depth::{below_top, depth_layers};
use crate::train::drop_path::DropPath;
use crate::train::image_input::{Images, share};
use crate::train::supervised::{Supervised, Trainer};

/// Streams of the dropout of channels in the random number generator.
const STREAMS: [u32; 2] = [3, 4];

/// A segmentation network being trained: weights, their average, optimizer, and the recorded step. A batch are views
/// (B, 4·S·S): the bytes of an image and then the label of each of its pixels.
pub type SegmentTrainer = Trainer<SegmentInputs>;

/// Buffers for a micro-batch of a segmentation network.
#[derive(Debug)]
pub struct SegmentInputs {
    config: Config,
    images: Images,
    /// (B, S, S)
    labels: Tensor,
    /// Probability that a channel is dropped in front of the classifiers, if any are.
    rate: Option<Tensor>,
}

impl Supervised for SegmentInputs {
    type Model = Segmenter;
    type Batch<'a> = &'a [u8];

    fn model(g: &Gpu, params: &mut Params, config: &Config) -> Result<Segmenter> {
        Segmenter::new(g, params, config)
    }

    fn new(g: &Gpu, config: &Config, batch: usize) -> Result<Self> {
        let Segmentation { dropout, .. } = *heads(config)?;
        Ok(Self {
            images: Images::new(config, batch)?,
            labels: Tensor::indices("labels", &[batch, config.image_size, config.image_size]),
            rate: (dropout > 0.0).then(|| Tensor::from_slice(g, &[1], &[dropout as f32])).transpose()?,
            config: config.clone(),
        })
    }

    fn loss(&mut self, r: &mut Recorder, model: &Segmenter, drop_path: &DropPath, state: &Tensor) -> Result<Var> {
        let Self { config, images, labels, rate } = self;
        let batch = labels.shape()[0];
        let heads = heads(config)?;
        let channels = [heads.head_channels(config.feature_maps()?), heads.auxiliary];
        let patches = Var::constant(images.patches(r, config.input_patch())?); // (B, L, P·P·3)
        let drop_path = drop_path.draw(r, state, batch)?;
        let mut dropped = [None, None];
        for ((slot, stream), channels) in dropped.iter_mut().zip(STREAMS).zip(channels) {
            if let Some(rate) = rate.as_ref().filter(|_| channels > 0) {
                let each = batch * channels;
                let factors = rng::drop_path(r, state, stream, rate, 1, each, each.next_multiple_of(64))?;
                *slot = Some(factors.range(0, &[batch, channels])?);
            }
        }
        let [decode, auxiliary] = &dropped;
        let scores = model.forward(r, &patches, drop_path.as_ref(), [decode.as_ref(), auxiliary.as_ref()])?;
        Ok(model.losses(r, &scores, labels)?.total)
    }

    fn depth(config: &Config, name: &str) -> usize {
        name.strip_prefix(config.backbone_prefix()).map_or(0, |name| below_top(config, name))
    }

    fn depth_by_name(config: &Config, name: &str) -> usize {
        let layers = depth_layers(config);
        (layers + 1).saturating_sub(by_block(layers, name)) as usize
    }

    fn write(&self, g: &Gpu, views: &[u8], (part, parts): (usize, usize)) -> Result<()> {
        let (batch, pixels) = (self.labels.shape()[0], self.config.image_size.pow(2));
        let expected = 4 * pixels * batch * parts;
        if views.len() != expected {
            return Err(Error::argument("views", format!("{} bytes", views.len()), format!("{expected} bytes")));
        }
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for view in share(views, (part, parts)).chunks(4 * pixels) {
            images.extend_from_slice(&view[..3 * pixels]);
            labels.extend(view[3 * pixels..].iter().map(|label| u32::from(*label)));
        }
        self.images.write(g, &images, (0, 1))?;
        self.labels.write(g, &labels)
    }
}

/// The heads of a segmentation network.
fn heads(config: &Config) -> Result<&Segmentation> {
    match &config.dense {
        Some(Dense::Segmentation(heads)) => Ok(heads),
        other => Err(Error::argument("dense", format!("{other:?}"), "segmentation")),
    }
}

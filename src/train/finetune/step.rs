//! One step of a fine-tuning: images and target probabilities go in, the weights move, the loss comes out.

use super::inputs::FinetuneInputs;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{Classifier, Config, layer_of};
use crate::nn::Params;
use crate::ops::{cross_entropy, reduce};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;
use crate::train::drop_path::DropPath;
use crate::train::supervised::{Supervised, Trainer};

/// A classifier being trained: weights, their average, optimizer, and the recorded step. A batch are images (B, S, S,
/// 3) and targets (B, K).
pub type Finetuner = Trainer<FinetuneInputs>;

impl Supervised for FinetuneInputs {
    type Model = Classifier;
    type Batch<'a> = (&'a [u8], &'a [f32]);

    fn model(g: &Gpu, params: &mut Params, config: &Config) -> Result<Classifier> {
        if config.classes == 0 {
            return Err(Error::argument("classes", 0, "at least 1"));
        }
        Classifier::new(g, params, config)
    }

    fn new(_: &Gpu, config: &Config, batch: usize) -> Result<Self> {
        Self::of(config, batch)
    }

    fn loss(&mut self, r: &mut Recorder, model: &Classifier, drop_path: &DropPath, state: &Tensor) -> Result<Var> {
        let patches = Var::constant(self.patches(r)?); // (B, L, P·P·3)
        let drop_path = drop_path.draw(r, state, patches.data.shape()[0])?;
        let logits = model.forward(r, &patches, drop_path.as_ref())?.logits; // (B, K)
        r.scope("loss", |r| {
            let rows = cross_entropy::cross_entropy(r, &logits, &self.targets)?; // (B)
            reduce::sum(r, &rows) // [1]
        })
    }

    fn depth(config: &Config, name: &str) -> usize {
        let (layer, last) = layer_of(config, name);
        last - layer
    }

    fn write(&self, g: &Gpu, (images, targets): Self::Batch<'_>, part: (usize, usize)) -> Result<()> {
        self.expect(targets, part.1)?;
        self.upload(g, images, targets, part)
    }
}

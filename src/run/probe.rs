//! Features of labeled data sets, for the probes of [`infer::probe`](crate::infer::probe), and a probe that is repeated
//! during a pretraining.

use std::sync::Arc;

use pollster::block_on;

use super::world::World;
use crate::data::{Dataset, Transform};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::infer::features::FrozenEncoder;
use crate::infer::probe::{Features, linear_probe, nearest_neighbors};
use crate::infer::program::InferenceProgram;
use crate::models::Config;
use crate::nn::Weights;

/// What the features of a model that is being pretrained know about classes, in percent of the test half.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeScores {
    /// Images whose class the linear classifier puts first.
    pub top1: f64,
    /// Images whose class it has among its first five.
    pub top5: f64,
    /// Images whose class their nearest neighbors vote for.
    pub knn: f64,
}

/// A probe that is repeated while a model is pretrained: the same images each time, without augmentation.
#[derive(Debug, Clone)]
pub struct RepeatedProbe {
    train: Arc<Dataset>,
    test: Arc<Dataset>,
    threads: usize,
}

impl RepeatedProbe {
    /// Images that are computed at a time.
    const BATCH: usize = 64;
    /// Steps of the linear classifier.
    const STEPS: u64 = 200;
    /// Neighbors that vote, and the temperature of their votes.
    const NEIGHBORS: (usize, f64) = (20, 0.07);

    /// A probe on `data` and its test split, at most `images` of each, or all for 0; `threads` decode them.
    ///
    /// # Errors
    /// A set without labels or without a test split.
    pub fn new(data: &Dataset, images: usize, threads: usize) -> Result<Self> {
        let few = |half: &Dataset| half.limited(if images < half.len() { images } else { 0 });
        let classes = data.require_labels()?;
        let test = data.test_split()?.numbered_as(classes)?;
        Ok(Self { train: Arc::new(few(data)?), test: Arc::new(few(&test)?), threads })
    }

    /// The scores of the encoder among `weights`, which belong to the model `config`. The processes of `world` share
    /// the work, and each has the scores.
    ///
    /// # Errors
    /// Weights that are not of this model; images that cannot be read.
    pub fn scores(&self, world: &World, g: &Gpu, config: &Config, weights: Weights) -> Result<ProbeScores> {
        let encoder = FrozenEncoder::open(g, config, Some(weights), 0)?;
        let forward = encoder.program(g, config, Self::BATCH.min(self.train.len()).min(self.test.len()))?;
        let view = Transform::testing(config, config.test_view);
        let of = |half: &Arc<Dataset>| features(world, &forward, half, view, self.threads);
        let (train, test, classes) = (of(&self.train)?, of(&self.test)?, self.train.classes().len());
        let linear = block_on(linear_probe(g, &train, &test, classes, Self::STEPS))?;
        let (k, temperature) = Self::NEIGHBORS;
        let nearest = block_on(nearest_neighbors(g, &train, &test, classes, k.min(train.len()), temperature))?;
        Ok(ProbeScores { top1: linear.top1, top5: linear.top5, knn: nearest.top1 })
    }
}

/// The features that the program `forward` computes of a labeled data set. The processes of `world` share the work, and
/// each has all features.
pub fn features(
    world: &World, forward: &InferenceProgram, data: &Arc<Dataset>, transform: Transform, threads: usize,
) -> Result<Features> {
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    forward.over_shared(world, data, transform, (threads, 0), |features, batch| {
        rows.extend_from_slice(features);
        labels.extend_from_slice(&batch.labels);
        Ok(())
    })?;
    Features::new(rows, forward.width(), labels)
}

//! The fine-tuning task: steps on mixed images with soft targets, tests on the data set's test split.

use std::path::Path;
use std::sync::Arc;

use super::backbone::weights_of;
use super::checkpoint;
use super::checkpoint::Which;
use super::supervised::{LabelKind, RunContext, SupervisedTask};
use super::task::TaskSettings;
use super::tested::Tested;
use super::world::World;
use crate::data::{Dataset, ImageBatch, LoaderOptions, Transform};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::infer::program::InferenceProgram;
use crate::infer::scores::scores_of;
use crate::infer::scores::{Scores, Tally};
use crate::infer::vote::mean_scores;
use crate::models::adapt;
use crate::models::{Classifier, Config, TestView};
use crate::nn::Params;
use crate::run::weights_on_disk::read;
use crate::train::finetune::inputs::FinetuneInputs;
use crate::train::finetune::mixup::Mixup;
use crate::train::finetune::settings::{FinetuneArgs, FinetuneSettings};

impl TaskSettings for FinetuneSettings {
    fn loading(&self, config: &Config) -> LoaderOptions {
        let transform = Transform::finetuning(config, self.recipe);
        let partners = self.mix.mixup > 0.0 || self.mix.cutmix > 0.0;
        LoaderOptions { repeats: self.repeats, partners, ..LoaderOptions::new(self.run.images_per_step(), transform) }
    }
}

fn test_transform(settings: &FinetuneSettings, config: &Config) -> Transform {
    let view = TestView { crop_ratio: settings.crop_ratio, ..config.test_view };
    Transform::testing(config, view)
}

/// A classifier being fine-tuned on a data set.
pub type Finetuning = SupervisedTask<ImageClasses>;

/// Classes of images, which are mixed: targets are probabilities.
pub struct ImageClasses {
    mixup: Mixup,
}

impl LabelKind for ImageClasses {
    const COMMAND: &'static str = "finetune";
    const SCORE: &'static str = "top-1";
    const TESTED: fn(Scores, Option<Scores>) -> Tested = Tested::Classes;
    type Settings = FinetuneSettings;
    type Args = FinetuneArgs;
    type Inputs = FinetuneInputs;
    type Forward = InferenceProgram;
    type Scores = Scores;

    fn check(config: &Config, settings: &FinetuneSettings) -> Result<()> {
        if config.dense.is_some() {
            let expected = "a pretrained or a classifying one: others train with `rowscan segment` or `rowscan detect`";
            return Err(Error::argument("checkpoint", "a network for a dense task", expected));
        }
        let mixes = settings.mix.mixup > 0.0 || settings.mix.cutmix > 0.0;
        if config.family.clouds && mixes {
            return Err(Error::argument("mixup and cutmix", "a mixture", "0 each: point clouds are not mixed"));
        }
        Ok(test_transform(settings, config).check()?)
    }

    fn new(config: &Config, settings: &FinetuneSettings, _: &Arc<Dataset>) -> Result<Self> {
        Ok(Self { mixup: Mixup::new(settings.mix, config.classes, settings.run.seed)? })
    }

    /// The whole model, adapted to the new one. Of a `best` it takes the weights that won.
    fn load(g: &Gpu, folder: &Path, config: &Config, params: &Params, seed: u64) -> Result<()> {
        let (path, weights) = weights_of(folder)?;
        let adapted = adapt(weights, config, params, seed).map_err(|e| Error::file(&path, e))?;
        tracing::warn!("{}: {adapted}", path.display()); // nothing is left out or drawn anew without a word
        params.load(g, &adapted.weights)
    }

    fn forward(
        g: &Gpu, model: &Classifier, run: &RunContext<FinetuneSettings>, count: usize,
    ) -> Result<InferenceProgram> {
        scores_of(g, model, &run.config, run.settings.run.batch_size.min(count))
    }

    /// Mixed images and soft targets: those of this process, where the batch also holds what they are mixed with.
    fn with_batch<R>(
        &mut self, run: &RunContext<FinetuneSettings>, batch: &ImageBatch, step: u64,
        then: impl for<'a> FnOnce((&'a [u8], &'a [f32])) -> Result<R>,
    ) -> Result<R> {
        if run.config.family.clouds {
            return then((&batch.images, &self.mixup.unmixed(&batch.labels)?));
        }
        let mut images = batch.images.clone();
        let targets = self.mixup.apply(step, &mut images, &batch.labels)?;
        let (all, mine) = (batch.labels.len().max(1), run.world.place().of(run.settings.run.images_per_step()));
        then((&images[..images.len() / all * mine], &targets[..targets.len() / all * mine]))
    }

    fn scores(run: &RunContext<FinetuneSettings>, forward: &InferenceProgram, data: &Arc<Dataset>) -> Result<Scores> {
        let transform = test_transform(&run.settings, &run.config);
        Ok(evaluate(&run.world, forward, data, transform, run.threads)?.scores())
    }
}

/// The view of the tests of the run that wrote a checkpoint of the model `config`; the model's own if the checkpoint
/// does not say.
///
/// # Errors
/// A `state.json` that cannot be read.
pub fn tested_view(folder: &Path, config: &Config) -> Result<TestView> {
    let said = checkpoint::about(folder)?.crop_ratio;
    Ok(TestView { crop_ratio: said.unwrap_or(config.test_view.crop_ratio), ..config.test_view })
}

/// Runs a program of class scores over a data set, and tallies them: the processes of `world` share the work, and each
/// has the whole tally. Broken images are not counted.
pub fn evaluate(
    world: &World, forward: &InferenceProgram, data: &Arc<Dataset>, transform: Transform, threads: usize,
) -> Result<Tally> {
    let mut tally = Tally::new(forward.width());
    forward.over_shared(world, data, transform, (threads, 0), |rows, batch| tally.add(rows, &batch.labels))?;
    Ok(tally)
}

/// What several random views of each sample say, one by one and together.
pub struct Votes {
    /// The tally of each view.
    pub views: Vec<Tally>,
    /// The tally of the mean scores.
    pub together: Tally,
}

/// Runs a program of class scores over `rounds` random views of a data set, and over their mean: test-time voting.
///
/// # Errors
/// No round.
pub fn vote(
    world: &World, forward: &InferenceProgram, data: &Arc<Dataset>, view: Transform, (rounds, threads): (usize, usize),
) -> Result<Votes> {
    let (mut all, mut labels, mut views) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let (mut scores, mut tally) = (Vec::new(), Tally::new(forward.width()));
        labels.clear();
        forward.over_shared(world, data, view, (threads, round as u64), |rows, batch| {
            scores.extend_from_slice(rows);
            labels.extend_from_slice(&batch.labels);
            tally.add(rows, &batch.labels)
        })?;
        all.push(scores);
        views.push(tally);
    }
    let mut together = Tally::new(forward.width());
    together.add(&mean_scores(&all)?, &labels)?;
    Ok(Votes { views, together })
}

/// A program of class scores with the weights that a fine-tuning wrote into `folder`, for `batch` samples at a time.
///
/// # Errors
/// A folder that is no checkpoint of a classifier.
pub fn scores_in(g: &Gpu, folder: &Path, batch: usize) -> Result<InferenceProgram> {
    let config = checkpoint::config(folder)?;
    let (path, _) = checkpoint::chosen(folder, Which::Raw)?;
    let mut params = Params::new(g);
    let model = Classifier::new(g, &mut params, &config)?;
    params.load(g, &read(&path)?).map_err(|e| Error::file(&path, e))?;
    scores_of(g, &model, &config, batch)
}

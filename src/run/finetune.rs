//! The fine-tuning task: steps on mixed images with soft targets, tests on the data set's test split.

use std::path::Path;
use std::sync::Arc;

use super::checkpoint;
use super::checkpoint::{Companions, Which};
use super::task::{Surroundings, Task, TaskSettings};
use super::tested::Tested;
use super::world::World;
use crate::data::{DataError, Dataset, ImageBatch, LoaderOptions, Transform};
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
use crate::tensor::Tensor;
use crate::train::finetune::mixup::Mixup;
use crate::train::finetune::settings::FinetuneSettings;
use crate::train::finetune::step::Finetuner;
use crate::train::loss_scaler::LossScaler;

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
pub struct Finetuning {
    config: Config,
    settings: FinetuneSettings,
    g: Gpu,
    classes: Vec<String>,
    threads: usize,
    world: World,
    test_every: u64,
    tuner: Finetuner,
    mixup: Mixup,
    tests: Option<Tests>,
}

/// The test split, and the programs that compute its scores.
struct Tests {
    data: Arc<Dataset>,
    weights: InferenceProgram,
    average: Option<InferenceProgram>,
}

impl Finetuning {
    /// Loads the weights of the checkpoint, if the settings name one, adapted to this model. Of a `best` it takes those
    /// that won.
    fn start(&mut self) -> Result<()> {
        let Some(folder) = &self.settings.checkpoint else { return Ok(()) };
        checkpoint::config(folder)?;
        let (path, average) = checkpoint::chosen(folder, Which::Best)?;
        if average {
            tracing::warn!("{}: the moving average of the weights, which won the best test", path.display());
        }
        let adapted = adapt(read(&path)?, &self.config, &self.tuner.params, self.settings.run.seed);
        let adapted = adapted.map_err(|e| Error::file(&path, e))?;
        tracing::warn!("{}: {adapted}", path.display()); // nothing is left out or drawn anew without a word
        self.tuner.params.load(&self.g, &adapted.weights)?;
        self.tuner.start_average()
    }

    /// The test split; `None` with a warning if the data set has none.
    fn test_half(&self, train: &Dataset) -> Result<Option<Tests>> {
        let data = match train.test_split() {
            Ok(data) => Arc::new(data.numbered_as(&self.classes)?),
            Err(DataError::NoSplit { .. }) => {
                tracing::warn!("{} has no test half: this run is not tested", train.spec());
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        let batch = self.settings.run.batch_size.min(data.len());
        let forward = |model| scores_of(&self.g, model, &self.config, batch);
        let average = self.tuner.average().map(|(_, model)| forward(model)).transpose()?;
        Ok(Some(Tests { data, weights: forward(self.tuner.model())?, average }))
    }

    /// Mixed images and soft targets of a step: those of this process, where the batch also holds what they are mixed
    /// with.
    fn mixed(&self, batch: &ImageBatch, step: u64) -> Result<(Vec<u8>, Vec<f32>)> {
        let mut images = batch.images.clone();
        if self.config.family.clouds {
            return Ok((images, self.mixup.unmixed(&batch.labels)?));
        }
        let mut targets = self.mixup.apply(step, &mut images, &batch.labels)?;
        let (all, mine) = (batch.labels.len().max(1), self.world.place().of(self.settings.run.images_per_step()));
        images.truncate(images.len() / all * mine);
        targets.truncate(targets.len() / all * mine);
        Ok((images, targets))
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

impl Task for Finetuning {
    const COMMAND: &'static str = "finetune";
    type Settings = FinetuneSettings;

    fn check(config: &Config, settings: &FinetuneSettings) -> Result<()> {
        settings.check()?;
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

    /// It is tested every `eval_every` epochs of `record`, and after the last one.
    fn new(
        g: &Gpu, config: &Config, settings: &FinetuneSettings, surroundings: Surroundings<'_>, resumed: bool,
    ) -> Result<Self> {
        let Surroundings { world, record, data, threads } = surroundings;
        let classes = data.require_classes(config.classes)?.to_vec();
        let mut task = Self {
            tuner: Finetuner::fitting(g, config, &settings.run, world.place(), settings.tuning())?,
            mixup: Mixup::new(settings.mix, config.classes, settings.run.seed)?,
            g: g.clone(),
            config: config.clone(),
            settings: settings.clone(),
            classes,
            threads,
            world: world.clone(),
            test_every: record.eval_every,
            tests: None,
        };
        if !resumed {
            task.start()?;
        }
        task.tuner.join(world.exchange(g)?);
        Ok(task)
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn params(&self) -> &Params {
        &self.tuner.params
    }

    fn companions(&self) -> Companions<'_> {
        self.tuner.companions()
    }

    fn scaler(&self) -> Option<&LossScaler> {
        self.tuner.scaler()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn prepare(&mut self, data: &Arc<Dataset>) -> Result<()> {
        self.tuner.prepare()?;
        self.tests = if self.test_every > 0 { self.test_half(data)? } else { None };
        Ok(())
    }

    fn step(&mut self, batch: &ImageBatch, step: u64, lr: f64) -> Result<&Tensor> {
        let (images, targets) = self.mixed(batch, step)?;
        self.tuner.step((&images, &targets), step, lr)
    }

    fn find_not_finite(&mut self, batch: &ImageBatch, step: u64) -> Result<Option<String>> {
        let (images, targets) = self.mixed(batch, step)?;
        self.tuner.find_not_finite((&images, &targets), step)
    }

    fn test(&mut self, epoch: u64, last: bool) -> Result<Option<Tested>> {
        let due = last || epoch.is_multiple_of(self.test_every.max(1));
        let Some(tests) = self.tests.as_ref().filter(|_| due) else { return Ok(None) };
        let transform = test_transform(&self.settings, &self.config);
        let scores = |forward: &InferenceProgram| -> Result<Scores> {
            Ok(evaluate(&self.world, forward, &tests.data, transform, self.threads)?.scores())
        };
        Ok(Some(Tested::Classes(scores(&tests.weights)?, tests.average.as_ref().map(scores).transpose()?)))
    }
}

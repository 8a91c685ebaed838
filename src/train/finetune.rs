//! The fine-tuning run: mixed images and soft targets for its steps, tests on the other half of the data set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::checkpoint::{self, Companions};
use super::classify::{Finetuner, Tuning, scores_of};
use super::data::{Batch, DataError, Dataset, LoaderOptions, Recipe, Split, Transform};
use super::evaluate::{Scores, Tally};
use super::fit::expect_fit;
use super::forward::Forward;
use super::loss_scaler::LossScaler;
use super::mix::{Mix, Mixer};
use super::run::{Outputs, Run, Task, TaskSettings, Tested};
use super::settings::RunSettings;
use super::weights_file::read;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{Config, adapt};
use crate::nn::Params;
use crate::tensor::Tensor;

/// The settings of a fine-tuning run; a resumed run has to have the same. Stored in `state.json` and written to
/// `finetune.toml`. What a recipe of the literature sets is in [`recipes`](super::recipes).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What every run has.
    #[serde(flatten)]
    pub run: RunSettings,
    /// The checkpoint that the weights come from, as given; none for initial values.
    pub checkpoint: Option<PathBuf>,
    /// Crops of the images and changes to them.
    pub recipe: Recipe,
    /// How often an epoch shows an image in place of others.
    pub repeats: usize,
    /// Mixing of images, smoothing of targets.
    pub mix: Mix,
    /// Factor on the learning rate from each layer to the one before.
    pub layer_decay: f64,
    /// Momentum of the moving average of the weights; none keeps no average.
    pub model_ema: Option<f64>,
    /// Share of the shorter side that is kept of a test image.
    pub crop_ratio: f64,
}

impl AsRef<RunSettings> for Settings {
    fn as_ref(&self) -> &RunSettings {
        &self.run
    }
}

impl TaskSettings for Settings {
    fn loading(&self, config: &Config) -> LoaderOptions {
        let transform = Transform::Train { size: config.image_size as u32, recipe: self.recipe };
        LoaderOptions { repeats: self.repeats, ..LoaderOptions::new(self.run.images_per_step(), transform) }
    }
}

impl Settings {
    /// Everything that must hold before anything is opened.
    pub fn check(&self, config: &Config) -> Result<()> {
        let within = |ok: bool, what: &str, got: f64, expected: &str| match ok {
            true => Ok(()),
            false => Err(Error::argument(what, got, expected)),
        };
        within(
            self.layer_decay > 0.0 && self.layer_decay <= 1.0,
            "--layer-decay",
            self.layer_decay,
            "above 0, at most 1 (off)",
        )?;
        let m = self.model_ema.unwrap_or(0.0);
        within((0.0..1.0).contains(&m), "--model-ema-decay", m, "0 to below 1")?;
        self.recipe.check()?;
        self.mix.check()?;
        self.test_transform(config).check()?;
        if !(1..=64).contains(&self.repeats) {
            return Err(Error::argument("--repeats", self.repeats, "1 to 64"));
        }
        self.run.check()
    }

    /// What the step does besides what every step does.
    pub fn tuning(&self) -> Tuning {
        Tuning { layer_decay: self.layer_decay, average: self.model_ema }
    }

    fn test_transform(&self, config: &Config) -> Transform {
        Transform::Eval { size: config.image_size as u32, crop_ratio: self.crop_ratio }
    }
}

/// A model learning the classes of a data set.
pub struct Finetuning {
    config: Config,
    settings: Settings,
    g: Gpu,
    classes: Vec<String>,
    threads: usize,
    test_every: u64,
    tuner: Finetuner,
    mixer: Mixer,
    tests: Option<Tests>,
}

/// The test half, and the programs that look at it.
struct Tests {
    data: Arc<Dataset>,
    weights: Forward,
    average: Option<Forward>,
}

/// Prepares a fine-tuning run that is tested every `test_every` epochs and after the last one; 0 for never.
///
/// # Errors
/// Wrong settings, data that cannot be read or has other classes, a model that does not fit, a checkpoint of another model
/// or run.
pub fn prepare<'a>(
    g: &'a Gpu, config: &Config, settings: &Settings, outputs: &'a Outputs, test_every: u64, resume: Option<&Path>,
) -> Result<Run<'a, Finetuning>> {
    settings.check(config)?;
    Run::prepare(g, config, settings, outputs, resume, |data| {
        let classes = data.require_classes(config.classes)?.to_vec();
        let mut task = Finetuning::new(g, config, settings, classes, (test_every, outputs.threads))?;
        if resume.is_none() {
            task.start()?;
        }
        Ok(task)
    })
}

impl Finetuning {
    fn new(
        g: &Gpu, config: &Config, settings: &Settings, classes: Vec<String>, (test_every, threads): (u64, usize),
    ) -> Result<Self> {
        let (batch, hyper, tuning) = (settings.run.batch_size, settings.run.hyper()?, settings.tuning());
        let plan = |g: &Gpu, batch, hyper| Finetuner::new(g, config, batch, hyper, tuning, 0)?.plan();
        expect_fit(g.caps(), batch, hyper, plan)?;
        Ok(Self {
            tuner: Finetuner::new(g, config, batch, hyper, tuning, settings.run.seed)?,
            mixer: Mixer::new(settings.mix, config.classes, settings.run.seed)?,
            g: g.clone(),
            config: config.clone(),
            settings: settings.clone(),
            classes,
            threads,
            test_every,
            tests: None,
        })
    }

    /// Takes over the weights of the checkpoint that training starts from, if there is one.
    fn start(&mut self) -> Result<()> {
        let Some(folder) = &self.settings.checkpoint else { return Ok(()) };
        checkpoint::config(folder)?;
        let path = folder.join(checkpoint::MODEL);
        let adapted = adapt(read(&path)?, &self.config, &self.tuner.params, self.settings.run.seed);
        let adapted = adapted.map_err(|e| Error::file(&path, e))?;
        tracing::info!("{}: {adapted}", path.display());
        self.tuner.params.load(&self.g, &adapted.weights)?;
        self.tuner.start_average()
    }

    /// The test half, if there is one.
    fn test_half(&self, train: &Dataset) -> Result<Option<Tests>> {
        let data = match Dataset::open(&self.settings.run.data, Split::Test) {
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

    /// Images and targets of a step.
    fn mixed(&self, batch: &Batch, step: u64) -> Result<(Vec<u8>, Vec<f32>)> {
        let mut images = batch.images.clone();
        let targets = self.mixer.apply(step, &mut images, &batch.labels)?;
        Ok((images, targets))
    }
}

/// Share of the shorter side of a test image that the run which left a checkpoint kept; 0.875 where none says.
///
/// # Errors
/// A `state.json` that cannot be read.
pub fn tested_crop_ratio(folder: &Path) -> Result<f64> {
    #[derive(Deserialize)]
    struct Tested {
        crop_ratio: Option<f64>,
    }
    let told = match folder.join(checkpoint::STATE).exists() {
        true => checkpoint::state::<Tested>(folder)?.settings.crop_ratio,
        false => None,
    };
    Ok(told.unwrap_or(0.875))
}

/// The scores of a forward program on a data set.
pub fn evaluate(forward: &Forward, data: &Arc<Dataset>, transform: Transform, threads: usize) -> Result<Tally> {
    let mut tally = Tally::new(forward.width());
    forward.over(data, transform, threads, |rows, labels| tally.add(rows, labels))?;
    Ok(tally)
}

impl Task for Finetuning {
    const COMMAND: &'static str = "finetune";
    type Settings = Settings;

    fn config(&self) -> &Config {
        &self.config
    }

    fn params(&self) -> &Params {
        &self.tuner.params
    }

    fn companions(&self) -> Companions<'_> {
        let average = self.tuner.average().map(|(params, _)| (checkpoint::AVERAGE, params));
        average.into_iter().chain(self.tuner.scaler().map(LossScaler::companion)).collect()
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

    fn step(&mut self, batch: &Batch, step: u64, lr: f64) -> Result<&Tensor> {
        let (images, targets) = self.mixed(batch, step)?;
        self.tuner.step(&images, &targets, step, lr)
    }

    fn find_not_finite(&mut self, batch: &Batch, step: u64) -> Result<Option<String>> {
        let (images, targets) = self.mixed(batch, step)?;
        self.tuner.find_not_finite(&images, &targets, step)
    }

    fn test(&mut self, epoch: u64, last: bool) -> Result<Option<Tested>> {
        let due = last || epoch.is_multiple_of(self.test_every.max(1));
        let Some(tests) = self.tests.as_ref().filter(|_| due) else { return Ok(None) };
        let transform = self.settings.test_transform(&self.config);
        let scores = |forward: &Forward| -> Result<Scores> {
            Ok(evaluate(forward, &tests.data, transform, self.threads)?.scores())
        };
        Ok(Some((scores(&tests.weights)?, tests.average.as_ref().map(scores).transpose()?)))
    }
}

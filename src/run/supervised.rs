//! Training on labels, whatever they are of: images, pixels, objects. What differs between them is a [`LabelKind`].

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::backbone::load_backbone;
use super::checkpoint::Companions;
use super::task::{Surroundings, Task, TaskSettings};
use super::tested::Tested;
use super::world::World;
use crate::data::{DataError, Dataset, ImageBatch};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::Config;
use crate::models::dense::Dense;
use crate::nn::Params;
use crate::tensor::Tensor;
use crate::train::dense_recipes::DenseRecipe;
use crate::train::loss_scaler::LossScaler;
use crate::train::options::Layer;
use crate::train::supervised::{Supervised, SupervisedSettings, Trainer};

/// What the parts of a run on labels know of it.
pub struct RunContext<S> {
    /// The network.
    pub config: Config,
    /// How it is trained.
    pub settings: S,
    /// Names of the classes that it learns.
    pub classes: Vec<String>,
    /// The processes that share the steps.
    pub world: World,
    /// Decoding threads of this process; 0 takes one per core.
    pub threads: usize,
}

/// A kind of labels: how a network learns from them, and how it is tested on them.
pub trait LabelKind: Sized {
    /// Name of the command, and of the file with its options.
    const COMMAND: &'static str;
    /// What the best checkpoint is chosen by, for messages.
    const SCORE: &'static str;
    /// The test of weights with these scores, and of their moving average.
    const TESTED: fn(Self::Scores, Option<Self::Scores>) -> Tested;
    /// Everything that decides a run's result.
    type Settings: TaskSettings + SupervisedSettings;
    /// What one layer of options says about them.
    type Args: Layer<Self::Settings> + for<'a> From<&'a Self::Settings> + Serialize + DeserializeOwned;
    /// Network, buffers and loss of a step.
    type Inputs: Supervised;
    /// A program that computes what is tested.
    type Forward;
    /// The scores of a test.
    type Scores: Copy;

    /// Refuses networks and settings that cannot work, before anything is opened.
    ///
    /// # Errors
    /// What is refused, and what was expected.
    fn check(config: &Config, settings: &Self::Settings) -> Result<()>;

    /// What is to be known of a data set's labels. Nothing is written yet.
    ///
    /// # Errors
    /// A set without such labels.
    fn new(config: &Config, settings: &Self::Settings, data: &Arc<Dataset>) -> Result<Self>;

    /// Loads the weights of a checkpoint into those of the network `config`, as far as they fit.
    ///
    /// # Errors
    /// A folder that is no checkpoint, one of another model.
    fn load(g: &Gpu, folder: &Path, config: &Config, params: &Params, seed: u64) -> Result<()> {
        load_backbone(g, folder, config, params, seed)
    }

    /// A program for a test of `count` samples.
    ///
    /// # Errors
    /// A model that does not fit the adapter.
    fn forward(
        g: &Gpu, model: &<Self::Inputs as Supervised>::Model, run: &RunContext<Self::Settings>, count: usize,
    ) -> Result<Self::Forward>;

    /// Passes a batch of the loader on as the step wants it.
    ///
    /// # Errors
    /// Those of `then`.
    fn with_batch<R>(
        &mut self, run: &RunContext<Self::Settings>, batch: &ImageBatch, step: u64,
        then: impl FnOnce(<Self::Inputs as Supervised>::Batch<'_>) -> Result<R>,
    ) -> Result<R>;

    /// Tests a network on a data set.
    ///
    /// # Errors
    /// No sample that can be read; processes that do not answer in time.
    fn scores(run: &RunContext<Self::Settings>, forward: &Self::Forward, data: &Arc<Dataset>) -> Result<Self::Scores>;

    /// The number of the category of each class, in COCO's form; empty if there are none.
    fn categories(&self) -> &[Option<u64>] {
        &[]
    }
}

/// Labels of the parts of an image, which heads on a backbone learn.
pub trait DenseLabels: LabelKind {
    /// The heads.
    type Heads: Clone + Default;
    /// What one layer of options says about them.
    type HeadArgs: Layer<Self::Heads> + for<'a> From<&'a Self::Heads> + Serialize + DeserializeOwned;

    /// Names of all recipes, with a line about each.
    const RECIPES: &'static [(&'static str, &'static str)];

    /// The recipe `name`.
    ///
    /// # Errors
    /// An unknown name.
    fn recipe(name: &str) -> Result<DenseRecipe<Self::Heads, Self::Settings>>;
    /// Heads and settings for a backbone whose finest map has `width` channels.
    fn of_width(width: usize) -> (Self::Heads, Self::Settings);
    /// The heads as a network has them.
    fn dense(heads: Self::Heads) -> Dense;
    /// The heads of a network, if they are for such labels.
    fn heads(dense: &Dense) -> Option<&Self::Heads>;
}

/// A network being trained on the labels of a data set.
pub struct SupervisedTask<L: LabelKind> {
    g: Gpu,
    run: RunContext<L::Settings>,
    labels: L,
    test_every: u64,
    trainer: Trainer<L::Inputs>,
    tests: Option<Tests<L::Forward>>,
}

/// The test split, and the programs for it.
struct Tests<F> {
    data: Arc<Dataset>,
    weights: F,
    average: Option<F>,
}

impl<L: LabelKind> SupervisedTask<L> {
    /// The test split; `None` with a warning if the data set has none.
    fn test_half(&self, train: &Dataset) -> Result<Option<Tests<L::Forward>>> {
        let data = match train.test_split() {
            Ok(data) => Arc::new(data.numbered_as(&self.run.classes)?),
            Err(DataError::NoSplit { .. }) => {
                tracing::warn!("{} has no test half: this run is not tested", train.spec());
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        let forward = |model| L::forward(&self.g, model, &self.run, data.len());
        let average = self.trainer.average().map(|(_, model)| forward(model)).transpose()?;
        let weights = forward(self.trainer.model())?;
        Ok(Some(Tests { data, weights, average }))
    }
}

impl<L: LabelKind> Task for SupervisedTask<L> {
    const COMMAND: &'static str = L::COMMAND;
    const SCORE: &'static str = L::SCORE;
    type Settings = L::Settings;

    fn check(config: &Config, settings: &L::Settings) -> Result<()> {
        settings.check()?;
        L::check(config, settings)
    }

    /// It is tested every `eval_every` epochs of `record`, and after the last one.
    fn new(
        g: &Gpu, config: &Config, settings: &L::Settings, surroundings: Surroundings<'_>, resumed: bool,
    ) -> Result<Self> {
        let Surroundings { world, record, data, threads } = surroundings;
        let labels = L::new(config, settings, data)?;
        let classes = data.require_classes(config.classes)?.to_vec();
        let run = settings.as_ref();
        let mut trainer = Trainer::<L::Inputs>::fitting(g, config, run, world.place(), settings.tuning())?;
        if let Some(folder) = settings.checkpoint().filter(|_| !resumed) {
            L::load(g, folder, config, &trainer.params, run.seed)?;
            trainer.start_average()?;
        }
        trainer.join(world.exchange(g)?);
        Ok(Self {
            g: g.clone(),
            run: RunContext {
                config: config.clone(),
                settings: settings.clone(),
                classes,
                world: world.clone(),
                threads,
            },
            labels,
            test_every: record.eval_every,
            trainer,
            tests: None,
        })
    }

    fn config(&self) -> &Config {
        &self.run.config
    }

    fn params(&self) -> &Params {
        &self.trainer.params
    }

    fn companions(&self) -> Companions<'_> {
        self.trainer.companions()
    }

    fn scaler(&self) -> Option<&LossScaler> {
        self.trainer.scaler()
    }

    fn classes(&self) -> &[String] {
        &self.run.classes
    }

    fn categories(&self) -> &[Option<u64>] {
        self.labels.categories()
    }

    fn prepare(&mut self, data: &Arc<Dataset>) -> Result<()> {
        self.trainer.prepare()?;
        self.tests = if self.test_every > 0 { self.test_half(data)? } else { None };
        Ok(())
    }

    fn step(&mut self, batch: &ImageBatch, step: u64, lr: f64) -> Result<&Tensor> {
        let Self { run, labels, trainer, .. } = self;
        labels.with_batch(run, batch, step, |batch| trainer.step(batch, step, lr))
    }

    fn find_not_finite(&mut self, batch: &ImageBatch, step: u64) -> Result<Option<String>> {
        let Self { run, labels, trainer, .. } = self;
        labels.with_batch(run, batch, step, |batch| trainer.find_not_finite(batch, step))
    }

    fn test(&mut self, epoch: u64, last: bool) -> Result<Option<Tested>> {
        let due = last || epoch.is_multiple_of(self.test_every.max(1));
        let Some(tests) = self.tests.as_ref().filter(|_| due) else { return Ok(None) };
        let scores = |forward: &L::Forward| L::scores(&self.run, forward, &tests.data);
        Ok(Some(L::TESTED(scores(&tests.weights)?, tests.average.as_ref().map(scores).transpose()?)))
    }
}

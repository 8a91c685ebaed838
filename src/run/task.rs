//! The task of a run, as its loop sees it.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::checkpoint::Companions;
use super::outputs::RecordSettings;
use super::tested::Tested;
use super::world::World;
use crate::data::{Dataset, ImageBatch, LoaderOptions, PixelLabels};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::Config;
use crate::nn::Params;
use crate::tensor::Tensor;
use crate::train::loss_scaler::LossScaler;
use crate::train::settings::RunSettings;

/// Settings of a task: everything that decides the result of its run.
pub trait TaskSettings: AsRef<RunSettings> + AsMut<RunSettings> + Clone + Serialize + DeserializeOwned {
    /// How the data set's images become batches: transform, crops, repeats. Batch size, seed and threads are set by the
    /// run.
    fn loading(&self, config: &Config) -> LoaderOptions;

    /// What the values of segmentation maps mean, where the data set does not say it.
    fn labels(&self) -> PixelLabels {
        PixelLabels::default()
    }
}

/// What a task finds around it.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The processes that share its steps.
    pub world: &'a World,
    /// How often the run writes.
    pub record: &'a RecordSettings,
    /// What it trains on.
    pub data: &'a Arc<Dataset>,
    /// Decoding threads of this process; 0 takes one per core.
    pub threads: usize,
}

/// A training task: a model and its step. [`Run`](crate::run::Run) is the loop around it.
pub trait Task {
    /// Name of the command, and of the file with its options.
    const COMMAND: &'static str;
    /// What the best checkpoint is chosen by, for messages.
    const SCORE: &'static str = "top-1";
    /// Its settings.
    type Settings: TaskSettings;

    /// Refuses settings that cannot work, before anything is opened.
    fn check(config: &Config, settings: &Self::Settings) -> Result<()>;
    /// The task for a run, with its initial weights, unless `resumed` says that a checkpoint will bring them.
    ///
    /// # Errors
    /// Data with other classes, a model that does not fit, weights to start from that cannot be read.
    fn new(
        g: &Gpu, config: &Config, settings: &Self::Settings, surroundings: Surroundings<'_>, resumed: bool,
    ) -> Result<Self>
    where
        Self: Sized;
    /// The model.
    fn config(&self) -> &Config;
    /// Its weights.
    fn params(&self) -> &Params;
    /// Weights that training changes besides the model's, with the names of their files.
    fn companions(&self) -> Companions<'_> {
        Vec::new()
    }
    /// The loss scaler; `None` if the loss is not scaled.
    fn scaler(&self) -> Option<&LossScaler> {
        None
    }
    /// Names of the classes that the model learns; empty if it learns none.
    fn classes(&self) -> &[String] {
        &[]
    }
    /// The number of the category of each class, in COCO's form; empty if there are none.
    fn categories(&self) -> &[Option<u64>] {
        &[]
    }
    /// Builds the programs of the steps. The weights are in place by then.
    fn prepare(&mut self, data: &Arc<Dataset>) -> Result<()>;
    /// Submits step number `step`, counted from 0. Returns the tensor that will hold the loss.
    fn step(&mut self, batch: &ImageBatch, step: u64, lr: f64) -> Result<&Tensor>;
    /// Repeats a step whose loss was not finite, and names the first tensor that is not. `None` if this time all are
    /// finite.
    fn find_not_finite(&mut self, batch: &ImageBatch, step: u64) -> Result<Option<String>>;
    /// Tests the model after `epoch` epochs, if a test is due; `last` says that no epoch follows.
    fn test(&mut self, _epoch: u64, _last: bool) -> Result<Option<Tested>> {
        Ok(None)
    }
    /// Pictures in a row of the grids that [`Task::show`] writes; 0 if it writes none.
    fn columns(&self) -> usize {
        0
    }
    /// Writes the task's own pictures into `dir` after `epoch` epochs, if they are due; `last` says that no epoch
    /// follows.
    fn show(&mut self, _dir: &Path, _epoch: u64, _last: bool) -> Result<()> {
        Ok(())
    }
}

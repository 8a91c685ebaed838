//! What a run trains, seen from its loop.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::checkpoint::Companions;
use crate::data::{Dataset, ImageBatch, LoaderOptions};
use crate::error::Result;
use crate::infer::scores::Scores;
use crate::models::Config;
use crate::nn::Params;
use crate::tensor::Tensor;
use crate::train::loss_scaler::LossScaler;
use crate::train::settings::RunSettings;

/// Everything that decides the result of a task's run.
pub trait TaskSettings: AsRef<RunSettings> + Clone + Serialize + DeserializeOwned {
    /// What is made of the images of the data set, and how often; the rest is the run's.
    fn loading(&self, config: &Config) -> LoaderOptions;
}

/// Scores of a model, and of the moving average of its weights.
pub type Tested = (Scores, Option<Scores>);

/// What a run trains.
pub trait Task {
    /// The command, which also names the file of its options.
    const COMMAND: &'static str;
    /// Everything that decides the result.
    type Settings: TaskSettings;

    /// The model.
    fn config(&self) -> &Config;
    /// Its weights.
    fn params(&self) -> &Params;
    /// Weights that training changes besides those.
    fn companions(&self) -> Companions<'_> {
        Vec::new()
    }
    /// What scales the loss, if anything does.
    fn scaler(&self) -> Option<&LossScaler> {
        None
    }
    /// The names of the classes that it learns.
    fn classes(&self) -> &[String] {
        &[]
    }
    /// Builds what the steps need, once the weights are where they start from.
    fn prepare(&mut self, data: &Arc<Dataset>) -> Result<()>;
    /// Submits step `step`, counted from 0. Returns where the loss will be.
    fn step(&mut self, batch: &ImageBatch, step: u64, lr: f64) -> Result<&Tensor>;
    /// Goes through a step again whose loss was no number, and says what is not finite first, if that can be found.
    fn find_not_finite(&mut self, batch: &ImageBatch, step: u64) -> Result<Option<String>>;
    /// Scores after `epoch` epochs, of which it is the `last` or not, if it is time for a test.
    fn test(&mut self, _epoch: u64, _last: bool) -> Result<Option<Tested>> {
        Ok(None)
    }
    /// Leaves what only this task has to show in `dir`, after `epoch` epochs, of which it is the `last` or not.
    fn show(&mut self, _dir: &Path, _epoch: u64, _last: bool) -> Result<()> {
        Ok(())
    }
}

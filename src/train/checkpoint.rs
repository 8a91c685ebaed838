//! Checkpoints: `config.json` and `model.safetensors`, and for training `optimizer.safetensors` and `state.json`, and
//! what else a method or recipe changes. What is in each file is said here; where the files lie is another matter: in a folder, or in a browser's storage.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::weights_file;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::Config;
use crate::nn::{Params, Weights};
use crate::train::pretrain::settings::Settings;

/// The file that says what the model is made of.
pub const CONFIG: &str = "config.json";
/// The file of the weights.
pub const MODEL: &str = "model.safetensors";
/// The file of the optimizer's moments.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// The file of the moving average of the weights, where a run keeps one.
pub const AVERAGE: &str = "ema.safetensors";
/// The file of the names of a classifier's classes, where they are known.
pub const CLASSES: &str = "classes.json";
/// The file that says where a run stands.
pub const STATE: &str = "state.json";

/// Where a training run stands. Everything random follows from seed, epoch and step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State<S = Settings> {
    /// Format of this file.
    pub version: u32,
    /// Optimizer steps done.
    pub step: u64,
    /// Epoch of the next batch.
    pub epoch: u64,
    /// Number of the next batch within its epoch.
    pub batch: u64,
    /// Images of the data set: with another number every batch would be another.
    pub images: usize,
    /// The settings of the run, which a resumed run has to share.
    pub settings: S,
    /// The best test so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
}

impl<S> State<S> {
    /// Before the first step of a run over so many images.
    pub fn fresh(images: usize, settings: S) -> Self {
        Self { version: VERSION, step: 0, epoch: 0, batch: 0, images, settings, best: None }
    }
}

/// The best test of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Epochs that were done.
    pub epoch: u64,
    /// Top-1 accuracy in percent.
    pub top1: f64,
    /// Whether it is that of the moving average of the weights.
    pub average: bool,
}

/// Version of [`State`].
pub const VERSION: u32 = 1;

pub(crate) fn from_json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::file(path, format!("not what a checkpoint holds: {e}")))
}

pub(crate) fn to_json<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::Internal(format!("{what} as JSON: {e}")))
}

pub(crate) fn to_bytes(weights: &Weights) -> Result<Vec<u8>> {
    weights_file::to_bytes(weights, [("format".to_string(), "pt".to_string())].into())
}

/// `config.json`.
pub fn config_to_bytes(config: &Config) -> Result<Vec<u8>> {
    to_json("config", config)
}

/// `state.json`.
pub fn state_to_bytes<S: Serialize>(state: &State<S>) -> Result<Vec<u8>> {
    to_json("state", state)
}

/// `model.safetensors` of the weights on the GPU.
pub async fn weights_to_bytes(g: &Gpu, params: &Params) -> Result<Vec<u8>> {
    to_bytes(&params.weights(g).await?)
}

/// `optimizer.safetensors` of the moments on the GPU.
pub async fn moments_to_bytes(g: &Gpu, params: &Params) -> Result<Vec<u8>> {
    let (first, second) = params.moments(g).await?;
    let named =
        |prefix: &'static str, moments: Weights| moments.into_iter().map(move |(k, v)| (format!("{prefix}.{k}"), v));
    to_bytes(&named("exp_avg", first).chain(named("exp_avg_sq", second)).collect())
}

/// The configuration in the bytes of a `config.json`; `path` is for the error.
pub fn config_from_bytes(path: &Path, bytes: &[u8]) -> Result<Config> {
    let config: Config = from_json(path, bytes)?;
    config.validate().map_err(|e| Error::file(path, e))?;
    Ok(config)
}

/// The state in the bytes of a `state.json`; `path` is for the error.
pub fn state_from_bytes<S: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<State<S>> {
    let state: State<S> = from_json(path, bytes)?;
    if state.version != VERSION {
        return Err(Error::file(path, format!("version {}, expected {VERSION}", state.version)));
    }
    Ok(state)
}

/// Overwrites the moments with the content of an `optimizer.safetensors`; `path` is for the error.
pub fn load_moments(g: &Gpu, path: &Path, moments: Weights, params: &Params) -> Result<()> {
    let (mut first, mut second) = (Weights::new(), Weights::new());
    for (name, tensor) in moments {
        if let Some(name) = name.strip_prefix("exp_avg_sq.") {
            second.insert(name.into(), tensor);
        } else if let Some(name) = name.strip_prefix("exp_avg.") {
            first.insert(name.into(), tensor);
        } else {
            return Err(Error::file(path, format!("tensor `{name}` is neither exp_avg nor exp_avg_sq")));
        }
    }
    params.load_moments(g, &first, &second).map_err(|e| Error::file(path, e))
}

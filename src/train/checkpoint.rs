//! The content of a checkpoint's files, as bytes: `config.json` and `model.safetensors`; for training also
//! `optimizer.safetensors`, `state.json`, and further weights that a method or recipe trains.
//!
//! Where the files are stored is decided elsewhere: `run::checkpoint` writes folders, a browser page its own storage.

use std::path::Path;

use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::weights_file;
use crate::data::Fingerprint;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::Config;
use crate::nn::{Params, Weights};
use crate::train::pretrain::settings::PretrainSettings;

/// The file of the model's configuration.
pub const CONFIG: &str = "config.json";
/// The file of the weights.
pub const MODEL: &str = "model.safetensors";
/// The file of the optimizer's moments.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// The file of the moving average of the weights; only of runs that keep one.
pub const AVERAGE: &str = "ema.safetensors";
/// The file with the names of a classifier's classes; only of runs that know them.
pub const CLASSES: &str = "classes.json";
/// The file with the number of the category of each class, in COCO's form; only of runs that know them.
pub const CATEGORIES: &str = "categories.json";
/// The file of the run's state: step, epoch, settings.
pub const STATE: &str = "state.json";

/// The state of a training run. It holds no random generator: everything random is a function of seed, epoch and step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State<S = PretrainSettings> {
    /// Format of this file.
    pub version: u32,
    /// Optimizer steps done.
    pub step: u64,
    /// Epoch of the next batch, counted from 0.
    pub epoch: u64,
    /// Number of the next batch within its epoch, counted from 0.
    pub batch: u64,
    /// Images of the data set. A resumed run needs the same number, or each of its batches would hold other images.
    pub images: usize,
    /// Which images they are. `None` in checkpoints of version 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing: Option<Fingerprint>,
    /// The settings of the run. A resumed run needs the same.
    pub settings: S,
    /// The best test so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
}

impl<S> State<S> {
    /// Before the first step of a run over `images` images, which `listing` says if it is known.
    pub fn new(images: usize, listing: Option<Fingerprint>, settings: S) -> Self {
        Self { version: VERSION, step: 0, epoch: 0, batch: 0, images, listing, settings, best: None }
    }
}

/// The best test of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Epochs that were complete when it was tested.
    pub epoch: u64,
    /// Top-1 accuracy in percent; of a segmentation network its mIoU.
    pub top1: f64,
    /// Whether the moving average of the weights reached it, and not the weights themselves.
    pub average: bool,
}

/// Version of [`State`], in `state.json`.
pub const VERSION: u32 = 1;

pub(crate) fn from_json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| not_in_checkpoints(path, &e))
}

fn not_in_checkpoints(path: &Path, e: &serde_json::Error) -> Error {
    Error::file(path, format!("not what a checkpoint holds: {e}"))
}

pub(crate) fn to_json<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::Internal(format!("{what} as JSON: {e}")))
}

pub(crate) fn to_bytes(weights: &Weights) -> Result<Vec<u8>> {
    weights_file::to_bytes(weights, [("format".to_string(), "pt".to_string())].into())
}

/// Newest format of `config.json`. Raise it when a model of this version could be misread by an older one.
///
/// 0: the first version, which wrote no `format`; 1: the same keys, and `format` itself.
pub const CONFIG_FORMAT: u32 = 1;

/// `config.json`: the configuration and the format that it is written in.
pub fn config_to_bytes(config: &Config) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct ConfigFile<'a> {
        format: u32,
        #[serde(flatten)]
        config: &'a Config,
    }
    to_json("config", &ConfigFile { format: CONFIG_FORMAT, config })
}

/// A JSON object without its key `format`, for a structure that does not know the key and refuses unknown ones. Unlike
/// `#[serde(flatten)]` it leaves the line and the key in errors.
struct WithoutFormat<T>(T);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for WithoutFormat<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(WithoutFormat(visitor))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for WithoutFormat<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(WithoutFormat(map))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutFormat<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.0.next_key::<String>()? {
            if key != "format" {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            self.0.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
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
    /// Read first, whatever else there is: a newer file may have keys that this version does not know.
    #[derive(Deserialize)]
    struct Format {
        #[serde(default)]
        format: u32,
    }
    let Format { format } = from_json(path, bytes)?;
    if format > CONFIG_FORMAT {
        let advice = format!("this version reads up to {CONFIG_FORMAT}: open it with a newer rowscan");
        return Err(Error::file(path, format!("is of format {format}, {advice}")));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let config = Config::deserialize(WithoutFormat(&mut json)).and_then(|config| json.end().map(|()| config));
    let config = config.map_err(|e| not_in_checkpoints(path, &e))?;
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

/// The first and the second moments of all parameters, from the content of an `optimizer.safetensors`; checked. `path`
/// is for the error.
pub fn moments(path: &Path, content: Weights, params: &Params) -> Result<[Weights; 2]> {
    let (mut first, mut second) = (Weights::new(), Weights::new());
    for (name, tensor) in content {
        if let Some(name) = name.strip_prefix("exp_avg_sq.") {
            second.insert(name.into(), tensor);
        } else if let Some(name) = name.strip_prefix("exp_avg.") {
            first.insert(name.into(), tensor);
        } else {
            return Err(Error::file(path, format!("tensor `{name}` is neither exp_avg nor exp_avg_sq")));
        }
    }
    for moment in [&first, &second] {
        params.expect_moment(moment).map_err(|e| Error::file(path, e))?;
    }
    Ok([first, second])
}

/// Overwrites the moments with the content of an `optimizer.safetensors`; `path` is for the error.
pub fn load_moments(g: &Gpu, path: &Path, content: Weights, params: &Params) -> Result<()> {
    let [first, second] = moments(path, content, params)?;
    params.load_moments(g, &first, &second).map_err(|e| Error::file(path, e))
}

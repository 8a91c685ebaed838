//! Checkpoints: a folder with `config.json` and `model.safetensors`, and for training `optimizer.safetensors` and
//! `state.json`. A folder is written under a temporary name, synced, and renamed: its final name never stands for half of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::weights_file::{read, to_bytes, write_atomic};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::Config;
use crate::nn::{Params, Weights};

/// Where a training run stands. Everything random follows from seed, epoch and step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Format of this file.
    pub version: u32,
    /// Optimizer steps done.
    pub step: u64,
    /// Epoch of the next batch.
    pub epoch: u64,
    /// Number of the next batch within its epoch.
    pub batch: u64,
    /// The settings of the run, which a resumed run has to share.
    pub settings: serde_json::Value,
}

/// Version of [`State`].
pub const VERSION: u32 = 1;

fn json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::file(path, e))?;
    write_atomic(path, text.as_bytes())
}

fn from_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
    serde_json::from_str(&text).map_err(|e| Error::file(path, format!("not what a checkpoint holds: {e}")))
}

fn sync_folder(path: &Path) -> Result<()> {
    // directories cannot be opened for syncing on Windows; the rename is journaled there
    if cfg!(unix) {
        File::open(path).and_then(|f| f.sync_all()).map_err(|e| Error::file(path, e))?;
    }
    Ok(())
}

/// Writes a training checkpoint to `folder`, replacing an older one of that name.
pub fn save(g: &Gpu, folder: &Path, config: &Config, params: &Params, state: &State) -> Result<()> {
    let failed = |e: std::io::Error| Error::file(folder, format!("cannot be written: {e}"));
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(failed)?;
    let partial = tempfile::Builder::new().prefix(".partial-").tempdir_in(parent).map_err(failed)?;
    let at = |name: &str| partial.path().join(name);
    let metadata = || [("format".to_string(), "pt".to_string())].into();
    json(&at("config.json"), config)?;
    write_atomic(&at("model.safetensors"), &to_bytes(&pollster::block_on(params.weights(g))?, metadata())?)?;
    let (first, second) = pollster::block_on(params.moments(g))?;
    let named =
        |prefix: &'static str, moments: Weights| moments.into_iter().map(move |(k, v)| (format!("{prefix}.{k}"), v));
    let moments: Weights = named("exp_avg", first).chain(named("exp_avg_sq", second)).collect();
    write_atomic(&at("optimizer.safetensors"), &to_bytes(&moments, metadata())?)?;
    json(&at("state.json"), state)?;
    sync_folder(partial.path())?;
    if folder.exists() {
        // the old one keeps a name that `newest` understands until the new one is in place
        let old = parent.join(format!(".old-{}", folder.file_name().unwrap_or_default().to_string_lossy()));
        let _ = fs::remove_dir_all(&old);
        fs::rename(folder, &old).map_err(failed)?;
        fs::rename(partial.path(), folder).map_err(failed)?;
        fs::remove_dir_all(&old).map_err(failed)?;
    } else {
        fs::rename(partial.path(), folder).map_err(failed)?;
    }
    let _ = partial.keep(); // renamed: nothing left to clean up
    sync_folder(parent)
}

/// The configuration of a checkpoint.
pub fn config(folder: &Path) -> Result<Config> {
    if !folder.is_dir() {
        return Err(Error::file(folder, "is no checkpoint folder (it holds config.json and model.safetensors)"));
    }
    let config: Config = from_json(&folder.join("config.json"))?;
    config.validate()?;
    Ok(config)
}

/// The weights of a checkpoint folder.
pub fn load_weights(g: &Gpu, folder: &Path, params: &Params) -> Result<()> {
    let path = folder.join("model.safetensors");
    params.load(g, &read(&path)?).map_err(|e| Error::file(&path, e))
}

/// Weights, moments and state of a training checkpoint.
pub fn load(g: &Gpu, folder: &Path, params: &Params) -> Result<State> {
    let state: State = from_json(&folder.join("state.json"))?;
    if state.version != VERSION {
        return Err(Error::file(folder.join("state.json"), format!("version {}, expected {VERSION}", state.version)));
    }
    load_weights(g, folder, params)?;
    let path = folder.join("optimizer.safetensors");
    let (mut first, mut second) = (Weights::new(), Weights::new());
    for (name, tensor) in read(&path)? {
        if let Some(name) = name.strip_prefix("exp_avg_sq.") {
            second.insert(name.into(), tensor);
        } else if let Some(name) = name.strip_prefix("exp_avg.") {
            first.insert(name.into(), tensor);
        } else {
            return Err(Error::file(&path, format!("tensor `{name}` is neither exp_avg nor exp_avg_sq")));
        }
    }
    params.load_moments(g, &first, &second).map_err(|e| Error::file(&path, e))?;
    Ok(state)
}

/// The whole checkpoint with the most steps in an output folder.
pub fn newest(output: &Path) -> Result<Option<PathBuf>> {
    if !output.exists() {
        return Ok(None);
    }
    let mut found: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(output).map_err(|e| Error::file(output, e))? {
        let path = entry.map_err(|e| Error::file(output, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("checkpoint-") && !name.starts_with(".old-checkpoint-") {
            continue;
        }
        match from_json::<State>(&path.join("state.json")) {
            Ok(state) if found.as_ref().is_none_or(|(step, _)| state.step > *step) => found = Some((state.step, path)),
            Ok(_) => {}
            Err(e) => tracing::warn!("passing over a checkpoint: {e}"),
        }
    }
    Ok(found.map(|(_, path)| path))
}

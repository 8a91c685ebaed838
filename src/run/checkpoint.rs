//! Checkpoints on a disk. A folder is written under a temporary name, synced, and renamed: its final name never stands for
//! half of it.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{Config, Objective};
use crate::nn::{Params, Weights};
use crate::run::weights_on_disk::{expect_whole, read};
use crate::train::checkpoint::{AVERAGE, CLASSES, CONFIG, MODEL, OPTIMIZER, STATE, State};
use crate::train::weights_file::to_half_bytes;

/// How folders begin that are being written or removed.
pub(crate) const PARTIAL: &str = ".partial-";
/// How a checkpoint's folder begins while another takes its name.
pub(crate) const OLD: &str = ".old-";

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io(path, "read"))
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    // directories cannot be opened for syncing on Windows; the rename is journaled there
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

fn parent(folder: &Path) -> &Path {
    folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A folder that gets its name when it is whole; until then dropping it leaves nothing.
struct Pending<'a> {
    folder: &'a Path,
    partial: tempfile::TempDir,
}

impl<'a> Pending<'a> {
    fn new(folder: &'a Path) -> Result<Self> {
        let failed = Error::io(folder, "written");
        if folder.exists() && !folder.is_dir() {
            return Err(Error::file(folder, "is a file, expected a folder to write to"));
        }
        fs::create_dir_all(parent(folder)).map_err(&failed)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(PARTIAL);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777)); // subject to the umask, as any folder
        Ok(Self { folder, partial: builder.tempdir_in(parent(folder)).map_err(&failed)? })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let written = File::create(self.partial.path().join(name)).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(Error::io(self.folder.join(name), "written"))
    }

    /// Files first, then the folder, then its name: each is on the disk before the next.
    fn commit(self) -> Result<()> {
        let Self { folder, partial } = self;
        let name = || -> std::io::Result<()> {
            sync_folder(partial.path())?;
            if !folder.exists() {
                fs::rename(partial.path(), folder)?;
                return sync_folder(parent(folder));
            }
            // the old one keeps a name that `newest` understands until the new one is in place
            let old = parent(folder).join(format!("{OLD}{}", folder.file_name().unwrap_or_default().to_string_lossy()));
            if old.exists() {
                fs::remove_dir_all(&old)?;
            }
            fs::rename(folder, &old)?;
            if let Err(e) = fs::rename(partial.path(), folder) {
                fs::rename(&old, folder)?;
                return Err(e);
            }
            sync_folder(parent(folder))?;
            fs::remove_dir_all(&old)
        };
        let named = name().map_err(Error::io(folder, "written"));
        if named.is_ok() {
            let _ = partial.keep(); // renamed: nothing left to clean up
        }
        named
    }
}

/// Weights that training changes besides those of the model, by their files: a moving average, a queue.
pub type Companions<'a> = Vec<(&'static str, &'a Params)>;

/// Writes a training checkpoint to `folder`, replacing an older one of that name, with the names of the `classes` that the
/// model learns, if it does.
pub fn save<S: Serialize>(
    g: &Gpu, folder: &Path, config: &Config, params: &Params, companions: &Companions<'_>, classes: &[String],
    state: &State<S>,
) -> Result<()> {
    let pending = Pending::new(folder)?;
    pending.write(CONFIG, &crate::train::checkpoint::config_to_bytes(config)?)?;
    pending.write(MODEL, &pollster::block_on(crate::train::checkpoint::weights_to_bytes(g, params))?)?;
    pending.write(OPTIMIZER, &pollster::block_on(crate::train::checkpoint::moments_to_bytes(g, params))?)?;
    for (name, companion) in companions {
        pending.write(name, &pollster::block_on(crate::train::checkpoint::weights_to_bytes(g, companion))?)?;
    }
    if !classes.is_empty() {
        pending.write(CLASSES, &crate::train::checkpoint::to_json("classes", &classes)?)?;
    }
    pending.write(STATE, &crate::train::checkpoint::state_to_bytes(state)?)?;
    pending.commit()
}

/// Writes a checkpoint without training state to `folder`, which must not exist or be empty.
pub fn save_weights(folder: &Path, config: &Config, weights: &Weights) -> Result<()> {
    let pending = fresh(folder)?;
    pending.write(CONFIG, &crate::train::checkpoint::config_to_bytes(config)?)?;
    pending.write(MODEL, &crate::train::checkpoint::to_bytes(weights)?)?;
    pending.commit()
}

/// Writes a checkpoint without training state in f16, with what its metadata shall say, to `folder`, which must not exist or be empty.
pub fn save_half(folder: &Path, config: &Config, weights: &Weights, about: HashMap<String, String>) -> Result<()> {
    let pending = fresh(folder)?;
    pending.write(CONFIG, &crate::train::checkpoint::config_to_bytes(config)?)?;
    pending.write(MODEL, &to_half_bytes(weights, about)?)?;
    pending.commit()
}

fn fresh(folder: &Path) -> Result<Pending<'_>> {
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::file(folder, "is not empty, expected a new folder"));
    }
    Pending::new(folder)
}

/// Removes a checkpoint. Whatever interrupts this, its name does not stand for a part of it.
pub fn remove(folder: &Path) -> Result<()> {
    let failed = Error::io(folder, "removed");
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let gone = parent(folder).join(format!("{PARTIAL}{name}"));
    fs::rename(folder, &gone).and_then(|()| fs::remove_dir_all(&gone)).map_err(&failed)
}

/// The configuration of a checkpoint.
pub fn config(folder: &Path) -> Result<Config> {
    if !folder.is_dir() {
        return Err(Error::file(folder, "is no checkpoint folder (it holds config.json and model.safetensors)"));
    }
    let path = folder.join(CONFIG);
    crate::train::checkpoint::config_from_bytes(&path, &bytes_of(&path)?)
}

/// The names of the classes of a checkpoint's classifier, if they are in it.
pub fn classes(folder: &Path) -> Result<Option<Vec<String>>> {
    let path = folder.join(CLASSES);
    if path.exists() { crate::train::checkpoint::from_json(&path, &bytes_of(&path)?).map(Some) } else { Ok(None) }
}

/// The state of a training checkpoint.
pub fn state<S: DeserializeOwned>(folder: &Path) -> Result<State<S>> {
    let path = folder.join(STATE);
    if folder.join(CONFIG).exists() && !path.exists() {
        return Err(Error::file(folder, "holds weights but no training to go on with (no state.json)"));
    }
    crate::train::checkpoint::state_from_bytes(&path, &bytes_of(&path)?)
}

/// The weights of a checkpoint folder, by name.
pub fn weights(folder: &Path) -> Result<Weights> {
    read(&folder.join(MODEL))
}

/// The weights of a checkpoint folder, onto the GPU.
pub fn load_weights(g: &Gpu, folder: &Path, params: &Params) -> Result<()> {
    load_file(g, &folder.join(MODEL), params)
}

/// The moving average of the weights of a checkpoint folder, onto the GPU.
pub fn load_average(g: &Gpu, folder: &Path, params: &Params) -> Result<()> {
    let path = folder.join(AVERAGE);
    if folder.join(CONFIG).exists() && !path.exists() {
        return Err(Error::file(folder, format!("holds no moving average of the weights (no {AVERAGE})")));
    }
    load_file(g, &path, params)
}

fn load_file(g: &Gpu, path: &Path, params: &Params) -> Result<()> {
    params.load(g, &read(path)?).map_err(|e| Error::file(path, e))
}

/// Weights, moments, companions and state of a training checkpoint.
pub fn load<S: DeserializeOwned>(
    g: &Gpu, folder: &Path, params: &Params, companions: &Companions<'_>,
) -> Result<State<S>> {
    let state = state(folder)?;
    load_weights(g, folder, params)?;
    companions.iter().try_for_each(|(name, companion)| load_file(g, &folder.join(name), companion))?;
    let path = folder.join(OPTIMIZER);
    crate::train::checkpoint::load_moments(g, &path, read(&path)?, params)?;
    Ok(state)
}

/// What a checkpoint's model was pretrained to do: as its `state.json` says, or as its decoder suggests.
pub fn objective(folder: &Path) -> Result<Objective> {
    #[derive(serde::Deserialize)]
    struct Pretraining {
        #[serde(flatten)]
        objective: Objective,
    }
    if !folder.join(STATE).exists() {
        return Ok(Objective::natural(&config(folder)?));
    }
    Ok(state::<Pretraining>(folder)?.settings.objective)
}

/// The state of a training checkpoint of which every file is as long as it says, whatever its settings are.
pub fn state_of_whole(folder: &Path) -> Result<State<IgnoredAny>> {
    config(folder)?;
    expect_whole(&folder.join(MODEL))?;
    expect_whole(&folder.join(OPTIMIZER))?;
    if folder.join(AVERAGE).exists() {
        expect_whole(&folder.join(AVERAGE))?;
    }
    state(folder)
}

/// Whether a path has the name of a run's checkpoint, whole or not.
pub fn is_named_so(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix(OLD).unwrap_or(&name).starts_with("checkpoint-")
}

/// Training checkpoints of an output folder, by steps; torn ones are passed over with a warning.
pub fn all(output: &Path) -> Result<Vec<(u64, PathBuf)>> {
    if !output.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(output).map_err(Error::io(output, "read"))? {
        let path = entry.map_err(Error::io(output, "read"))?.path();
        if is_named_so(&path) {
            match state_of_whole(&path) {
                Ok(state) => found.push((state.step, path)),
                Err(e) => tracing::warn!("passing over a checkpoint: {e}"),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The whole checkpoint with the most steps in an output folder.
pub fn newest(output: &Path) -> Result<Option<PathBuf>> {
    Ok(all(output)?.pop().map(|(_, path)| path))
}

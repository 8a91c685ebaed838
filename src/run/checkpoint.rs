//! Checkpoint folders. A folder is written under a temporary name, synced and renamed, so that its final name never
//! stands for half a checkpoint.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::{Error, Result};
use crate::files::sync_folder;
use crate::gpu::Gpu;
use crate::models::{Config, Objective};
use crate::nn::{Params, Weights};
use crate::run::weights_on_disk::{expect_whole, metadata, read};
use crate::train::about::About;
use crate::train::checkpoint::{AVERAGE, CATEGORIES, CLASSES, CONFIG, MODEL, OPTIMIZER, STATE, State};
use crate::train::weights_file::to_half_bytes;

/// Prefix of the names of folders that are being written or removed.
pub(crate) const PARTIAL: &str = ".partial-";
/// Prefix of a checkpoint's name while another one takes its place.
pub(crate) const OLD: &str = ".old-";

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io(path, "read"))
}

fn parent(folder: &Path) -> &Path {
    folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A folder that gets its name on commit. Dropped before, it leaves nothing.
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

    /// Syncs the files, then the folder, then its name: each is on the disk before the next.
    fn commit(self) -> Result<()> {
        let Self { folder, partial } = self;
        let name = || -> std::io::Result<()> {
            sync_folder(partial.path())?;
            if !folder.exists() {
                fs::rename(partial.path(), folder)?;
                return sync_folder(parent(folder));
            }
            // until the new checkpoint is in place, the old one keeps a name that `newest` reads
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

/// Weights that training changes besides the model's own, with the names of their files: a moving average, a queue of
/// keys.
pub type Companions<'a> = Vec<(&'static str, &'a Params)>;

/// The classes that a model learns.
#[derive(Debug, Clone, Copy, Default)]
pub struct Learned<'a> {
    /// Their names; empty if it learns none.
    pub classes: &'a [String],
    /// The numbers of their categories in COCO's form; empty if they have none.
    pub categories: &'a [Option<u64>],
}

/// Writes a training checkpoint to `folder`, replacing an older one of that name.
pub fn save<S: Serialize>(
    g: &Gpu, folder: &Path, config: &Config, params: &Params, companions: &Companions<'_>, learned: Learned<'_>,
    state: &State<S>,
) -> Result<()> {
    let pending = Pending::new(folder)?;
    pending.write(CONFIG, &crate::train::checkpoint::config_to_bytes(config)?)?;
    pending.write(MODEL, &pollster::block_on(crate::train::checkpoint::weights_to_bytes(g, params))?)?;
    pending.write(OPTIMIZER, &pollster::block_on(crate::train::checkpoint::moments_to_bytes(g, params))?)?;
    for (name, companion) in companions {
        pending.write(name, &pollster::block_on(crate::train::checkpoint::weights_to_bytes(g, companion))?)?;
    }
    let Learned { classes, categories } = learned;
    if !classes.is_empty() {
        pending.write(CLASSES, &crate::train::checkpoint::to_json("classes", &classes)?)?;
    }
    if !categories.is_empty() {
        pending.write(CATEGORIES, &crate::train::checkpoint::to_json("categories", &categories)?)?;
    }
    pending.write(STATE, &crate::train::checkpoint::state_to_bytes(state)?)?;
    pending.commit()
}

/// Writes a checkpoint without training state to `folder`, which must not exist or be empty.
pub fn save_weights(folder: &Path, config: &Config, weights: &Weights) -> Result<()> {
    let config = crate::train::checkpoint::config_to_bytes(config)?;
    save_files(folder, (MODEL, &crate::train::checkpoint::to_bytes(weights)?), &[(CONFIG, config)], &[])
}

/// [`save_weights`] with what is known about the weights: names of classes, method, notes.
pub fn save_about(folder: &Path, config: &Config, weights: &Weights, about: &About) -> Result<()> {
    let (config, classes) = (crate::train::checkpoint::config_to_bytes(config)?, about.classes.as_deref());
    let model = crate::train::weights_file::to_bytes(weights, about.to_metadata()?)?;
    save_files(folder, (MODEL, &model), &[(CONFIG, config)], classes.unwrap_or_default())
}

/// Writes a checkpoint without training state, in f16 and with the metadata `about`, to `folder`, which must not exist
/// or be empty.
pub fn save_half(folder: &Path, config: &Config, weights: &Weights, about: HashMap<String, String>) -> Result<()> {
    let config = crate::train::checkpoint::config_to_bytes(config)?;
    save_files(folder, (MODEL, &to_half_bytes(weights, about)?), &[(CONFIG, config)], &[])
}

/// Writes a model under its name, other files, and the names of classes if there are any, to `folder`, which must not
/// exist or be empty.
pub(crate) fn save_files(
    folder: &Path, (name, model): (&str, &[u8]), files: &[(&str, Vec<u8>)], classes: &[String],
) -> Result<()> {
    let pending = fresh(folder)?;
    files.iter().try_for_each(|(name, bytes)| pending.write(name, bytes))?;
    pending.write(name, model)?;
    if !classes.is_empty() {
        pending.write(CLASSES, &crate::train::checkpoint::to_json("classes", &classes)?)?;
    }
    pending.commit()
}

fn fresh(folder: &Path) -> Result<Pending<'_>> {
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::file(folder, "is not empty, expected a new folder"));
    }
    Pending::new(folder)
}

/// Removes a checkpoint. It is renamed first, so that an interruption leaves no part of it under its name.
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

/// The configuration of a checkpoint whose network is of no dense task: it was pretrained or classifies.
///
/// # Errors
/// Also a network for a dense task; `what` is asked of it in vain.
pub fn config_of_images(folder: &Path, what: &str) -> Result<Config> {
    let config = config(folder)?;
    if config.dense.is_some() {
        let expected = "one that was pretrained or fine-tuned on classes; `rowscan predict` shows what this one finds";
        let reason = format!("is a network for a dense task, which has no {what}; expected {expected}");
        return Err(Error::file(folder, reason));
    }
    Ok(config)
}

/// Names of the classes of a checkpoint's classifier, from its `classes.json`; `None` if it has none. [`about`] looks
/// into the weights too.
pub fn classes(folder: &Path) -> Result<Option<Vec<String>>> {
    let path = folder.join(CLASSES);
    if path.exists() { crate::train::checkpoint::from_json(&path, &bytes_of(&path)?).map(Some) } else { Ok(None) }
}

/// The numbers of the categories of a detector's `classes`, from its `categories.json`; `None` if it has none.
///
/// # Errors
/// A file that cannot be read, or with another number of categories.
pub fn categories(folder: &Path, classes: usize) -> Result<Option<Vec<Option<u64>>>> {
    let path = folder.join(CATEGORIES);
    if !path.exists() {
        return Ok(None);
    }
    let found: Vec<Option<u64>> = crate::train::checkpoint::from_json(&path, &bytes_of(&path)?)?;
    if found.len() != classes {
        let expected = "one number or null for each class: correct the file, or remove it to number from 1";
        let reason =
            format!("numbers {} categories, the model has {classes} classes; expected {expected}", found.len());
        return Err(Error::file(path, reason));
    }
    Ok(Some(found))
}

/// What a checkpoint says about its weights: its files, or else the metadata of its weights.
///
/// # Errors
/// A file that cannot be read.
pub fn about(folder: &Path) -> Result<About> {
    /// The settings of a run that pretrains have a method, those of one that fine-tunes a crop ratio.
    #[derive(serde::Deserialize)]
    struct Settings {
        method: Option<serde_json::Value>,
        crop_ratio: Option<f64>,
    }
    let mut about = About::of_metadata(metadata(&folder.join(MODEL))?);
    about.classes = classes(folder)?.or(about.classes);
    if folder.join(STATE).exists() {
        let settings = state::<Settings>(folder)?.settings;
        about.objective = settings.method.map(|_| objective(folder)).transpose()?;
        about.crop_ratio = settings.crop_ratio;
    }
    Ok(about)
}

/// Which of its weights a checkpoint is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Which {
    /// Those of its best test, if that is what the checkpoint is of: the moving average where it won.
    #[default]
    Best,
    /// The weights themselves.
    Raw,
    /// The moving average of the weights.
    Average,
}

/// The file of a checkpoint's weights, and whether it holds the moving average.
///
/// # Errors
/// No moving average where it is asked for; a `state.json` that cannot be read.
pub fn chosen(folder: &Path, which: Which) -> Result<(PathBuf, bool)> {
    let average = match which {
        Which::Best => best_is_average(folder)?,
        Which::Raw => false,
        Which::Average => true,
    };
    let path = folder.join(if average { AVERAGE } else { MODEL });
    if average && folder.join(CONFIG).exists() && !path.exists() {
        return Err(Error::file(folder, format!("holds no moving average of the weights (no {AVERAGE})")));
    }
    Ok((path, average))
}

/// Whether a checkpoint was written after the best test of its run, which the moving average won.
fn best_is_average(folder: &Path) -> Result<bool> {
    if !folder.join(STATE).exists() || !folder.join(AVERAGE).exists() {
        return Ok(false);
    }
    let state = state::<IgnoredAny>(folder)?;
    Ok(state.best.is_some_and(|best| best.average && best.epoch == state.epoch && state.batch == 0))
}

/// The state of a training checkpoint.
pub fn state<S: DeserializeOwned>(folder: &Path) -> Result<State<S>> {
    let path = folder.join(STATE);
    if folder.join(CONFIG).exists() && !path.exists() {
        return Err(Error::file(folder, "holds weights but no training to go on with (no state.json)"));
    }
    crate::train::checkpoint::state_from_bytes(&path, &bytes_of(&path)?)
}

/// Weights of a checkpoint by name.
pub fn weights(folder: &Path) -> Result<Weights> {
    read(&folder.join(MODEL))
}

/// Loads the weights of a checkpoint onto the GPU.
pub fn load_weights(g: &Gpu, folder: &Path, params: &Params) -> Result<()> {
    load_file(g, &folder.join(MODEL), params)
}

/// Loads the moving average of the weights of a checkpoint onto the GPU.
pub fn load_average(g: &Gpu, folder: &Path, params: &Params) -> Result<()> {
    load_file(g, &chosen(folder, Which::Average)?.0, params)
}

fn load_file(g: &Gpu, path: &Path, params: &Params) -> Result<()> {
    params.load(g, &read(path)?).map_err(|e| Error::file(path, e))
}

/// Loads weights, moments and companions of a training checkpoint onto the GPU, and returns its state.
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

/// The objective that a checkpoint's model was pretrained with: from its `state.json`, or the metadata of exported
/// weights, or else guessed from its decoder.
pub fn objective(folder: &Path) -> Result<Objective> {
    #[derive(serde::Deserialize)]
    struct Pretraining {
        #[serde(flatten)]
        objective: Objective,
    }
    if !folder.join(STATE).exists() {
        return Ok(About::of_metadata(metadata(&folder.join(MODEL))?).objective_of(&config(folder)?));
    }
    Ok(state::<Pretraining>(folder)?.settings.objective)
}

/// The state of a training checkpoint, whatever its settings are. An error unless every file is there and as long as
/// its header says.
pub fn read_complete_state(folder: &Path) -> Result<State<IgnoredAny>> {
    config(folder)?;
    expect_whole(&folder.join(MODEL))?;
    expect_whole(&folder.join(OPTIMIZER))?;
    if folder.join(AVERAGE).exists() {
        expect_whole(&folder.join(AVERAGE))?;
    }
    state(folder)
}

/// Whether a path is named as a run names its checkpoints, complete or not.
pub fn is_checkpoint_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix(OLD).unwrap_or(&name).starts_with("checkpoint-")
}

/// The complete training checkpoints of an output folder with their steps, in order of steps. Others are named in a
/// warning and left out.
pub fn list(output: &Path) -> Result<Vec<(u64, PathBuf)>> {
    if !output.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(output).map_err(Error::io(output, "read"))? {
        let path = entry.map_err(Error::io(output, "read"))?.path();
        if is_checkpoint_name(&path) {
            match read_complete_state(&path) {
                Ok(state) => found.push((state.step, path)),
                Err(e) => tracing::warn!("passing over a checkpoint: {e}"),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The complete checkpoint with the most steps in an output folder.
pub fn newest(output: &Path) -> Result<Option<PathBuf>> {
    Ok(list(output)?.pop().map(|(_, path)| path))
}

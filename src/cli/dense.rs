//! What the commands for dense tasks share: their data, and the model that they begin with.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::model_args::{ModelArgs, model_under};
use crate::cli::terminal::warn;
use crate::data::{Dataset, PixelLabels};
use crate::error::{Error, Result};
use crate::models::Config;
use crate::models::dense::Dense;
use crate::run::output_dir::OutputDir;
use crate::run::record::write_atomic;
use crate::run::{checkpoint, open_labeled};
use crate::train::checkpoint::STATE;
use crate::train::dense_recipes::RecipeModel;
use crate::train::options::{overlay, uppermost};
use crate::train::segment::settings::LabelArgs;
use crate::train::settings::RunSettings;

/// The model that is trained if none is named: one that learns on a CPU in minutes.
const DEFAULT_MODEL: &str = "map_micro_patch8_64";

/// What `synthetic[:N]` is where the class of each pixel is asked for.
pub fn scenes(data: &str) -> String {
    generated(data, "synthetic-scenes")
}

/// What `synthetic[:N]` is where boxes and masks are asked for.
pub fn objects(data: &str) -> String {
    generated(data, "synthetic-objects")
}

fn generated(data: &str, name: &str) -> String {
    match data.strip_prefix("synthetic") {
        Some(rest) if rest.is_empty() || rest.starts_with(':') => format!("{name}{rest}"),
        _ => data.to_owned(),
    }
}

/// Says that a resumed run keeps its settings.
pub fn recipe_changes_nothing(name: &str) {
    warn(format_args!("--recipe {name} changes nothing: the run goes on with the settings of its checkpoint"));
}

/// The backbone of a new run, that of a checkpoint or a preset under the layers. What a recipe says about it goes under
/// the layers too.
pub fn backbone_under(models: &[&ModelArgs], folder: Option<&Path>, recipe: Option<RecipeModel>) -> Result<Config> {
    let default = recipe.map_or(DEFAULT_MODEL, |recipe| recipe.name);
    let mut base = match folder {
        Some(folder) => Config { dense: None, ..checkpoint::config(folder)?.both_ways() },
        None => Config::preset(uppermost(models, |model| model.model.as_deref()).unwrap_or(default))?,
    };
    if let Some(RecipeModel { image_size, drop_path, .. }) = recipe {
        base = Config { image_size, drop_path, ..base };
    }
    // a checkpoint of a dense task has no prefix tokens, which its family may need
    let base = Config { registers: base.registers.max(*base.family.prefix_tokens.start()), ..base };
    model_under(base, models)
}

/// What the values of a set's annotations mean: what the run of a checkpoint was told of the same set, under `args`.
pub fn labels_under(folder: &Path, data: &str, args: &LabelArgs) -> Result<PixelLabels> {
    #[derive(serde::Deserialize)]
    struct Told {
        data: String,
        #[serde(default)]
        labels: PixelLabels,
    }
    let has_state = folder.join(STATE).exists();
    let told = has_state.then(|| checkpoint::state::<Told>(folder)).transpose()?.map(|state| state.settings);
    let labels = told.filter(|told| told.data == data).map(|told| told.labels).unwrap_or_default();
    Ok(overlay(labels, &[args]))
}

/// The network of a new run with these heads, and the data set, which is open where the layers do not give the number
/// of classes. `expected` says what the set should be.
pub fn network_for(
    backbone: Config, dense: Dense, models: &[&ModelArgs], (run, labels): (&RunSettings, &PixelLabels), expected: &str,
) -> Result<(Config, Option<Arc<Dataset>>)> {
    let wanted = uppermost(models, |model| model.shape.classes.as_ref()).copied();
    let data = (!run.data.is_empty() && wanted.is_none()).then(|| open_labeled(run, labels)).transpose()?;
    let classes = match (&data, wanted) {
        (Some(data), _) if data.classes().is_empty() => {
            let got = format!("{}, which has no classes", data.spec());
            return Err(Error::argument("--data", got, expected.to_owned()));
        }
        (Some(data), _) => {
            match dense {
                Dense::Segmentation(_) => data.good_scene(0)?, // an error if images have no labels of this kind
                Dense::Detection(_) => data.good_objects(0)?,
            };
            data.classes().len()
        }
        (None, Some(wanted)) => wanted,
        (None, None) => backbone.classes.max(1),
    };
    let config = backbone.for_dense(dense, classes);
    config.validate()?;
    Ok((config, data))
}

/// A folder for what is drawn of images, under their names.
pub struct Pictures {
    folder: PathBuf,
    /// Opened by the first image: where none can be read, nothing is left behind.
    open: Option<OutputDir>,
    names: FreeNames,
}

impl Pictures {
    /// Of these images, which stay as they are if they lie in the folder themselves. Nothing is written yet.
    pub fn new(folder: &Path, images: impl Iterator<Item = String>) -> Self {
        Self { folder: folder.to_owned(), open: None, names: FreeNames::beside(folder, images) }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes files of these endings for the image in `file`. Where the name of an image is taken, by one before or by
    /// an image that lies there, they get a number.
    pub fn write(&mut self, file: &str, files: &[(&str, &[u8])]) -> Result<()> {
        if self.open.is_none() {
            self.open = Some(OutputDir::open(&self.folder)?);
        }
        let stem = Path::new(file).file_stem().map_or("image".into(), |stem| stem.to_string_lossy().into_owned());
        let endings: Vec<&str> = files.iter().map(|(ending, _)| *ending).collect();
        let name = self.names.take(&stem, &endings);
        files.iter().try_for_each(|(ending, bytes)| write_atomic(&self.folder.join(format!("{name}.{ending}")), bytes))
    }
}

/// Names of files in a folder that are still free.
struct FreeNames {
    /// What is not, in lower case: some file systems do not tell cases apart.
    taken: HashSet<String>,
    /// How often a stem was asked for.
    asked: HashMap<String, usize>,
}

impl FreeNames {
    /// Those of `images` that lie in `folder` are taken.
    fn beside(folder: &Path, images: impl Iterator<Item = String>) -> Self {
        let mut taken = HashSet::new();
        if let Ok(folder) = folder.canonicalize() {
            let mut known = HashMap::<PathBuf, bool>::new(); // whether a folder is this one
            for image in images.map(PathBuf::from) {
                let (Some(parent), Some(name)) = (image.parent(), image.file_name()) else { continue };
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                let same = known.entry(parent.to_owned());
                if *same.or_insert_with(|| parent.canonicalize().is_ok_and(|path| path == folder)) {
                    taken.insert(name.to_string_lossy().to_lowercase());
                }
            }
        }
        Self { taken, asked: HashMap::new() }
    }

    /// `stem`, or with a number, so that it is free with all endings; it is taken then.
    fn take(&mut self, stem: &str, endings: &[&str]) -> String {
        let asked = self.asked.entry(stem.to_lowercase()).or_default();
        loop {
            *asked += 1;
            let name = if *asked > 1 { format!("{stem}-{asked}") } else { stem.to_owned() };
            let files: Vec<_> = endings.iter().map(|ending| format!("{name}.{ending}").to_lowercase()).collect();
            if files.iter().all(|file| !self.taken.contains(file)) {
                self.taken.extend(files);
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_free_once() {
        let images = ["photo.png", "./other.PNG", "elsewhere/far.png"].map(String::from);
        let mut names = FreeNames::beside(Path::new("."), images.into_iter());
        let mut take = |stem| names.take(stem, &["png", "svg"]);
        assert_eq!(take("photo"), "photo-2"); // an image that lies there
        assert_eq!(take("other"), "other-2");
        assert_eq!([take("far"), take("far")], ["far", "far-2"]);
        assert_eq!([take("t"), take("t"), take("t-2"), take("T")], ["t", "t-2", "t-2-2", "T-3"]);
    }
}

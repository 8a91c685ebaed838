//! What the commands for dense tasks share: their data, and the model that they begin with.

use std::collections::BTreeMap;
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
        (Some(data), _) => data.classes().len(),
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
    taken: BTreeMap<String, usize>,
}

impl Pictures {
    /// Nothing is written yet.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), open: None, taken: BTreeMap::new() }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes files of these endings for the image in `file`. Of several images with one name the later ones get a
    /// number.
    pub fn write(&mut self, file: &str, files: &[(&str, &[u8])]) -> Result<()> {
        if self.open.is_none() {
            self.open = Some(OutputDir::open(&self.folder)?);
        }
        let stem = Path::new(file).file_stem().map_or("image".into(), |stem| stem.to_string_lossy().into_owned());
        let count = self.taken.entry(stem.clone()).or_default();
        *count += 1;
        let stem = if *count > 1 { format!("{stem}-{count}") } else { stem };
        files.iter().try_for_each(|(ending, bytes)| write_atomic(&self.folder.join(format!("{stem}.{ending}")), bytes))
    }
}

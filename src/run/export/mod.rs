//! Checkpoints for elsewhere: in f16 with notes about their origin, or as other libraries load them.

mod timm;
mod transformers;

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::models::{Config, Directions, Family};
use crate::nn::Weights;
use crate::run::checkpoint;
use crate::train::about::About;
use crate::train::checkpoint::config_to_bytes;
use crate::train::weights_file::{to_bytes, to_half_bytes};

/// Who is to load an exported folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// This program.
    #[default]
    Rowscan,
    /// `timm.create_model`.
    Timm,
    /// `from_pretrained` of the transformers library.
    Transformers,
}

/// A model under the names of another library.
struct Foreign {
    weights: Weights,
    /// The library's configuration files.
    files: Vec<(&'static str, Value)>,
    /// What was left out or differs, a line each.
    said: Vec<String>,
    /// The line of Python that loads it; `DIR` stands for the folder.
    load: String,
}

/// What libraries of vision transformers have. A decoder, a projector or a denoiser is none of it.
const PARTS: &[&str] = &["cls_token", "pos_embed", "patch_embed", "blocks", "norm", "fc_norm", "head"];

/// Splits encoder and head from what belongs to a pretraining method, and says so.
fn without_method(weights: &Weights, said: &mut Vec<String>) -> Weights {
    let kept = |name: &str| name.split('.').next().is_some_and(|part| PARTS.contains(&part));
    let (kept, out): (Weights, Weights) = weights.clone().into_iter().partition(|(name, _)| kept(name));
    if let Some(first) = out.keys().next() {
        said.push(format!("left out {} tensors of the pretraining method: {first}, …", out.len()));
    }
    kept
}

fn expect_vit(config: &Config, format: &'static str) -> Result<()> {
    let refused = |got: String, expected| Err(Error::argument(format!("model to export to {format}"), got, expected));
    if config.family != Family::VIT {
        return refused(format!("a {:?}", config.family), "a Vit: other families have no model there");
    }
    if config.directions == Directions::One {
        return refused("one that reads one way".into(), "one that reads both ways, as theirs do: fine-tune it first");
    }
    Ok(())
}

/// A number of a row of scores for each class name, as JSON objects: `{"0": "cat"}` and `{"cat": 0}`.
fn numbered(classes: &[String]) -> (Value, Value) {
    let by_number = classes.iter().enumerate().map(|(i, name)| (i.to_string(), Value::from(name.as_str())));
    let by_name = classes.iter().enumerate().map(|(i, name)| (name.clone(), Value::from(i)));
    (Value::Object(by_number.collect()), Value::Object(by_name.collect()))
}

/// What was exported.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exported {
    /// Number of weights.
    pub count: usize,
    /// What was left out or differs, a line each.
    pub said: Vec<String>,
    /// The line of Python that loads the folder.
    pub load: Option<String>,
}

fn count(weights: &Weights) -> usize {
    weights.values().map(|(_, values)| values.len()).sum()
}

/// Writes a model to `folder`, which must not exist or be empty: `config.json` and `model.safetensors` in f16 or f32.
///
/// # Errors
/// A model that the library does not have; a weight that f16 cannot hold.
pub fn export(
    folder: &Path, config: &Config, weights: &Weights, about: &About, format: Format, half: bool,
) -> Result<Exported> {
    let foreign = match format {
        Format::Rowscan => None,
        Format::Timm => Some(timm::convert(config, weights, about)?),
        Format::Transformers => Some(transformers::convert(config, weights, about)?),
    };
    let metadata = about.to_metadata()?;
    let bytes = |weights: &Weights| match half {
        true => to_half_bytes(weights, metadata),
        false => to_bytes(weights, metadata),
    };
    let classes = about.classes.as_deref().unwrap_or_default();
    let Some(Foreign { weights, files, said, load }) = foreign else {
        let config = config_to_bytes(config)?;
        checkpoint::save_files(folder, &bytes(weights)?, &[("config.json", config)], classes)?;
        return Ok(Exported { count: count(weights), ..Exported::default() });
    };
    let text = |value: &Value| crate::train::checkpoint::to_json("configuration", value);
    let files: Vec<_> = files.iter().map(|(name, value)| Ok((*name, text(value)?))).collect::<Result<_>>()?;
    checkpoint::save_files(folder, &bytes(&weights)?, &files, &[])?;
    let load = Some(load.replace("DIR", &folder.display().to_string()));
    Ok(Exported { count: count(&weights), said, load })
}

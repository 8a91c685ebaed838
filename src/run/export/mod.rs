//! Checkpoints for elsewhere: in f16 with notes about their origin, or as other libraries load them.

mod onnx;
mod timm;
mod transformers;

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::models::{Config, Directions, Family};
use crate::nn::Weights;
use crate::run::checkpoint;
use crate::train::about::About;
use crate::train::checkpoint::{MODEL, config_to_bytes};
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
    /// onnxruntime, and whatever else runs ONNX: the network itself, not only its weights.
    Onnx,
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

/// Networks of one sequence of tokens: those whose layers are Mamba layers and transformer blocks.
fn expect_token_backbone(config: &Config, format: &'static str) -> Result<()> {
    let refused = |got: String, expected: &str| {
        Err(Error::argument(format!("model to export to {format}"), got, expected.to_owned()))
    };
    if ![Family::VIT, Family::HYBRID, Family::VIM].contains(&config.family) {
        let expected = "one on the tokens of images: Vit (DeiT, MAE), Hybrid (MAP, Mamba-R) or Vim";
        return refused(format!("a {:?}", config.family), expected);
    }
    if config.dense.is_some() {
        return refused("a network for a dense task".into(), "a classifier or an encoder");
    }
    if config.directions == Directions::Channels {
        return refused("mixers that read their channels in reverse".into(), "mixers that scan tokens");
    }
    Ok(())
}

fn expect_vit(config: &Config, format: &'static str) -> Result<()> {
    let refused = |got: String, expected| Err(Error::argument(format!("model to export to {format}"), got, expected));
    if config.family != Family::VIT {
        let expected =
            "a ViT, such as DeiT or the encoder of MAE: others have no model there; their weights can be had as ONNX";
        return refused(format!("{}, a {:?}", config.name, config.family), expected);
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

/// Writes a model to `folder`, which must not exist or be empty: `config.json`, and `model.safetensors` or `model.onnx`
/// in f16 or f32.
///
/// # Errors
/// A model that the library does not have, or whose operators are not written to ONNX; a weight that f16 cannot hold.
pub fn export(
    folder: &Path, config: &Config, weights: &Weights, about: &About, format: Format, half: bool,
) -> Result<Exported> {
    let text = |value: &Value| crate::train::checkpoint::to_json("configuration", value);
    let loading = |load: Option<String>| load.map(|load| load.replace("DIR", &folder.display().to_string()));
    let foreign = match format {
        Format::Onnx => {
            let (model, config, exported) = onnx::convert(config, weights, about, half)?;
            let files = [("config.json", text(&config)?)];
            checkpoint::save_files(folder, ("model.onnx", &model), &files, &[])?;
            return Ok(Exported { load: loading(exported.load), ..exported });
        }
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
        checkpoint::save_files(folder, (MODEL, &bytes(weights)?), &[("config.json", config)], classes)?;
        return Ok(Exported { count: count(weights), ..Exported::default() });
    };
    let files: Vec<_> = files.iter().map(|(name, value)| Ok((*name, text(value)?))).collect::<Result<_>>()?;
    checkpoint::save_files(folder, (MODEL, &bytes(&weights)?), &files, &[])?;
    Ok(Exported { count: count(&weights), said, load: loading(Some(load)) })
}

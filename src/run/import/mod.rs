//! Weights trained elsewhere: files with the official tensor names become a configuration and weights.

mod beside;
mod detect;
mod source;

use std::path::Path;

use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu};
use crate::models::{ArmPretraining, Classifier, Config, Contents, Mae, Method, Objective};
use crate::models::{contents, leave_out_unused, pretext_model, without_prefix};
use crate::models::{from_transformers, is_of_transformers};
use crate::nn::{Params, Weights};
use crate::run::weights_on_disk::expect_finite;
use crate::train::about::About;
use source::Source;

/// What the caller asks of an import.
pub struct ImportOptions<'a> {
    /// The dictionary of a PyTorch file to take, with dots between the keys of nested ones.
    pub key: Option<&'a str>,
    /// Sets the fields of a configuration that the caller wants. They stand, or are refused with the reason.
    pub asked: &'a dyn Fn(Config) -> Config,
}

impl Default for ImportOptions<'_> {
    fn default() -> Self {
        Self { key: None, asked: &|config| config }
    }
}

/// An imported model.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Its configuration.
    pub config: Config,
    /// Its weights.
    pub weights: Weights,
    /// The names of its classes and what else its file says.
    pub about: About,
    /// What was left out or changed, a line each.
    pub said: Vec<String>,
}

/// Reads weights for the model `config` from a file in f32, f16, bf16 or f64: safetensors, the index or the folder of a
/// sharded one, or a PyTorch file. It may hold a classifier, an encoder alone, or an encoder with its decoder, under
/// the names of MAP, Mamba-R, Vim, timm, MAE or the transformers library. Sizes that no preset fixes are read off the
/// tensors' shapes.
///
/// # Errors
/// A tensor that is missing, unknown, or of another shape than the model's: every tensor has to be used. A value that
/// is not finite.
pub fn import(path: &Path, config: Config) -> Result<(Config, Weights)> {
    let Imported { config, weights, .. } = import_with(path, Some(config), &ImportOptions::default())?;
    Ok((config, weights))
}

/// [`import`] with options. Without `base` the model is that of the `config.json` beside the weights, ours or that of
/// the transformers library, or else the ViT that the tensors show, or `micro`.
///
/// # Errors
/// As [`import`]; an option that contradicts the tensors.
pub fn import_with(path: &Path, base: Option<Config>, options: &ImportOptions<'_>) -> Result<Imported> {
    let Source { weights, metadata, folder, mut said, .. } = Source::read(path, options.key)?;
    let (weights, prefixes) = without_prefix(weights);
    said.extend(prefixes.iter().map(|prefix| format!("took `{prefix}` off every name")));
    let theirs = is_of_transformers(&weights);
    let mut weights = if theirs { from_transformers(weights).map_err(|e| Error::file(path, e))? } else { weights };
    if theirs {
        let unused = leave_out_unused(&mut weights);
        said.extend((!unused.is_empty()).then(|| format!("left out {}", unused.join(", "))));
    }
    expect_finite(path, &weights)?;
    let mut about = About::of_metadata(metadata);
    let mut config = beside::base(&folder, base, theirs, &weights, &mut about, &mut said)?;
    config = (options.asked)(config);
    if let Some(objective) = &about.objective {
        config = config.pretrained_by(objective.method);
    }
    (config.family.translate)(&mut weights);
    let found = contents(&weights);
    let shown = detect::detect(&weights, found, config);
    let config = (options.asked)(shown.clone());
    detect::expect_shown(path, &shown, &config)?;
    config.validate().map_err(|e| Error::file(path, e))?;
    expect_names(path, &config, found, about.objective.as_ref(), &mut weights)?;
    if about.classes.as_ref().is_some_and(|names| names.len() != config.classes) {
        let names = about.classes.take().unwrap_or_default().len();
        said.extend((config.classes > 0).then(|| format!("left out {names} names of {} classes", config.classes)));
    }
    Ok(Imported { config, weights, about, said })
}

/// Checks that the tensors are exactly those of the model. A 1×1 convolution and a linear layer have the same weight:
/// one takes the place of the other.
fn expect_names(
    path: &Path, config: &Config, found: Contents, objective: Option<&Objective>, weights: &mut Weights,
) -> Result<()> {
    let dry = Gpu::dry(Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() });
    let mut params = Params::new(&dry);
    let other = matches!(found, Contents::Diffusion | Contents::Contrastive);
    match (found, objective) {
        (_, Some(objective)) if other => drop(pretext_model(&dry, &mut params, config, objective)?),
        (Contents::Diffusion | Contents::Contrastive, _) => {
            let expected = "an objective: import the `model.safetensors` of an export, or beside its state.json";
            return Err(Error::file(
                path,
                format!("is {found} and does not say how it was pretrained; expected {expected}"),
            ));
        }
        (Contents::Map, _) => drop(pretext_model(&dry, &mut params, config, &Objective::default())?),
        // both methods have the same tensors
        (Contents::Points, _) => {
            drop(pretext_model(&dry, &mut params, config, &Objective::of(Method::POINT_MAE))?);
        }
        (Contents::Mae, _) => drop(Mae::new(&dry, &mut params, config)?),
        (Contents::Arm, _) => drop(ArmPretraining::new(&dry, &mut params, config, &Objective::of(Method::ARM))?),
        (Contents::Classifier | Contents::Encoder, _) => drop(Classifier::new(&dry, &mut params, config)?),
    }
    for entry in params.tensors() {
        let Some((shape, _)) = weights.get_mut(&entry.name) else { continue };
        if bare(shape) == bare(&entry.shape) {
            shape.clone_from(&entry.shape);
        }
    }
    params.expect_names(weights).map_err(|e| {
        let shard = source::is_shard(path);
        let advice = if shard { "; it is one of several shards: import their index or folder" } else { "" };
        Error::file(path, format!("does not fit {}: {e}{advice}", config.name))
    })
}

/// A shape without the ones at its end.
fn bare(shape: &[usize]) -> &[usize] {
    let sides = shape.iter().rev().take_while(|side| **side == 1).count();
    &shape[..shape.len() - sides]
}

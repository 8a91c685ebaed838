//! `rowscan import`: weights under official names become a checkpoint folder.

use std::path::PathBuf;

use super::model_args::ModelArgs;
use crate::cli::terminal::{Outcome, say, usage, warn};
use crate::error::{Error, Result};
use crate::models::{Config, contents};
use crate::run::checkpoint;
use crate::run::import::{ImportOptions, Imported, import_with};
use crate::train::options::overlay;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Weights with the tensor names of MAP, Mamba-R, Vim, timm, MAE or transformers: a safetensors file, the index or
    /// the folder of a sharded one, or a PyTorch file (.pth, .pt, .bin).
    file: PathBuf,
    /// The dictionary of a PyTorch file to take, such as model_ema or state_dict.encoder; by default model or
    /// state_dict, or the only one with tensors.
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    /// Checkpoint folder to write: config.json and model.safetensors.
    #[arg(short, long)]
    output: PathBuf,
}

/// An error with the name of the option in place of its field.
fn with_option(error: Error) -> Error {
    match error {
        Error::File { path, reason } => Error::File { path, reason: reason.replace("`key`", "--key") },
        Error::Argument { what, got, expected } if what == "key" => {
            Error::Argument { what: "--key".into(), got, expected }
        }
        other => other,
    }
}

fn imported(args: &Args) -> Result<Imported> {
    let base = args.model.model.as_deref().map(Config::preset).transpose()?;
    if let Some(base) = &base {
        args.model.shape.check(base)?;
    }
    let asked = |config| overlay(config, &[&args.model.shape]);
    import_with(&args.file, base, &ImportOptions { key: args.key.as_deref(), asked: &asked }).map_err(with_option)
}

pub fn run(args: &Args) -> Outcome {
    let Imported { config, weights, about, said } = usage(imported(args))?;
    checkpoint::save_about(&args.output, &config, &weights, &about)?;
    said.iter().for_each(|line| warn(format_args!("{}: {line}", args.file.display())));
    let count: usize = weights.values().map(|(_, values)| values.len()).sum();
    let (tensors, folder) = (weights.len(), args.output.display());
    let (side, classes) = (config.image_size, config.classes);
    let mlp = if config.pattern.contains('T') { format!(", MLP ratio {}", config.mlp_ratio) } else { String::new() };
    let names = about.classes.map_or_else(String::new, |names| {
        format!(" ({}, …)", names.iter().take(2).cloned().collect::<Vec<_>>().join(", "))
    });
    say(format_args!(
        "{}: {} at {side}×{side}, {classes} classes{names}{mlp}; {tensors} tensors, {count} parameters in {folder}",
        config.name,
        contents(&weights)
    ))?;
    Ok(())
}

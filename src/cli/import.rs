//! `rowscan import`: weights under official names become a checkpoint folder.

use std::path::PathBuf;

use super::model_args::ModelArgs;
use crate::cli::terminal::{Outcome, say, usage};
use crate::models::contents;
use crate::run::checkpoint;
use crate::run::import::import;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// safetensors file in f32, f16 or bf16 with the tensor names of MAP, Mamba-R, Vim, timm, MAE or transformers.
    file: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Checkpoint folder to write: config.json and model.safetensors.
    #[arg(short, long)]
    output: PathBuf,
}

pub fn run(args: &Args) -> Outcome {
    let (config, weights) = import(&args.file, usage(args.model.resolve())?)?;
    checkpoint::save_weights(&args.output, &config, &weights)?;
    let count: usize = weights.values().map(|(_, values)| values.len()).sum();
    let (tensors, folder) = (weights.len(), args.output.display());
    let (side, classes) = (config.image_size, config.classes);
    let mlp = if config.pattern.contains('T') { format!(", MLP ratio {}", config.mlp_ratio) } else { String::new() };
    say(format_args!(
        "{}: {} at {side}×{side}, {classes} classes{mlp}; {tensors} tensors, {count} parameters in {folder}",
        config.name,
        contents(&weights)
    ))?;
    Ok(())
}

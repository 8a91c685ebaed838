//! `rowscan import`: weights under official names become a checkpoint folder.

use std::path::PathBuf;

use super::model_args::ModelArgs;
use super::{Outcome, say, usage};
use crate::train::checkpoint;
use crate::train::import::import;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// safetensors file with the official tensor names, in f32, f16 or bf16.
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
    say(format_args!(
        "{} tensors, {count} parameters, MLP ratio {}: {} in {}",
        weights.len(),
        config.mlp_ratio,
        config.name,
        args.output.display()
    ))?;
    Ok(())
}

//! `rowscan export`: a checkpoint's weights in f16, half the size, with metadata about their origin.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::cli::terminal::{Outcome, say};
use crate::run::checkpoint;
use crate::train::pretrain::settings::PretrainSettings;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Checkpoint folder with config.json and model.safetensors.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Checkpoint folder to write: config.json and model.safetensors, in f16.
    #[arg(short, long)]
    output: PathBuf,
    /// Metadata to add, such as `command=rowscan pretrain …`; may be given several times. Data, steps, seed and batch
    /// size are added from the training state by themselves.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    note: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.into(), value.into())).ok_or_else(|| "expected KEY=VALUE".into())
}

pub fn run(args: &Args) -> Outcome {
    let config = checkpoint::config(&args.checkpoint)?;
    let weights = checkpoint::weights(&args.checkpoint)?;
    let mut about = HashMap::from([
        ("format".to_string(), "pt".to_string()),
        ("made_by".into(), concat!("rowscan ", env!("CARGO_PKG_VERSION")).into()),
    ]);
    if let Ok(state) = checkpoint::state::<PretrainSettings>(&args.checkpoint) {
        let settings = &state.settings.run;
        about.insert("data".into(), settings.data.clone());
        about.insert("images".into(), state.images.to_string());
        about.insert("steps".into(), state.step.to_string());
        about.insert("batch_size".into(), settings.batch_size.to_string());
        about.insert("seed".into(), settings.seed.to_string());
    }
    about.extend(args.note.iter().cloned());
    checkpoint::save_half(&args.output, &config, &weights, about)?;
    let count: usize = weights.values().map(|(_, values)| values.len()).sum();
    say(format_args!("{count} parameters in f16: {}", args.output.display()))?;
    Ok(())
}

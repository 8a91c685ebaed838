//! `rowscan export`: a checkpoint's weights for elsewhere, with metadata about their origin.

use std::path::PathBuf;

use super::model_args::EmaArgs;
use crate::cli::terminal::{Outcome, say, usage, warn};
use crate::run::checkpoint;
use crate::run::export::{Exported, Format, export};
use crate::run::record::write_atomic;
use crate::run::weights_on_disk::{expect_finite, read};
use crate::train::checkpoint::{CATEGORIES, STATE, to_json};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Checkpoint folder with config.json and model.safetensors.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Folder to write: config.json, and model.safetensors or model.onnx.
    #[arg(short, long)]
    output: PathBuf,
    /// Who is to load it: rowscan; timm, by create_model; or transformers, by from_pretrained. timm takes a ViT or
    /// DeiT, ResNet, EfficientNet and ConvNeXt, transformers a ViT or DeiT. MAP's decoder is left out. onnx writes the
    /// network itself, of a ViT, DeiT, hybrid, Mamba-R or Vim: scores of a classifier, features of an encoder.
    #[arg(long, value_parser = ["rowscan", "timm", "transformers", "onnx"], default_value = "rowscan")]
    format: String,
    /// Type of the numbers; by default f16 for rowscan, which halves the size, and f32 for the others.
    #[arg(long, value_parser = ["f16", "f32"])]
    dtype: Option<String>,
    #[command(flatten)]
    ema: EmaArgs,
    /// Metadata to add, such as `command=rowscan pretrain …`; may be given several times. Names of classes, method,
    /// data, steps, seed and batch size are added from the checkpoint by themselves.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    note: Vec<(String, String)>,
}

/// Keys of the metadata that a note may not take: the program reads them back.
const OWN: &[&str] = &["format", "classes", "objective", "crop_ratio"];

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("expected KEY=VALUE")?;
    if OWN.contains(&key) {
        return Err(format!("{key} is written by the program: choose another key than {}", OWN.join(", ")));
    }
    Ok((key.into(), value.into()))
}

pub fn run(args: &Args) -> Outcome {
    let config = checkpoint::config(&args.checkpoint)?;
    let path = args.ema.file(&args.checkpoint)?.0;
    let weights = read(&path)?;
    expect_finite(&path, &weights)?;
    let mut about = checkpoint::about(&args.checkpoint)?;
    about.notes.insert("made_by".into(), concat!("rowscan ", env!("CARGO_PKG_VERSION")).into());
    if args.checkpoint.join(STATE).exists() {
        // of a run of any command: the settings that all have
        let state = checkpoint::state::<serde_json::Value>(&args.checkpoint)?;
        about.notes.insert("images".into(), state.images.to_string());
        about.notes.insert("steps".into(), state.step.to_string());
        for key in ["data", "batch_size", "seed"] {
            let text = match &state.settings[key] {
                serde_json::Value::Null => continue,
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            about.notes.insert(key.into(), text);
        }
    }
    about.notes.extend(args.note.iter().cloned());
    let format = match args.format.as_str() {
        "timm" => Format::Timm,
        "transformers" => Format::Transformers,
        "onnx" => Format::Onnx,
        _ => Format::Rowscan,
    };
    let half = args.dtype.as_deref().map_or(format == Format::Rowscan, |dtype| dtype == "f16");
    let exported = export(&args.output, &config, &weights, &about, format, half);
    let Exported { count, said, load } = usage(exported)?;
    if let (Format::Rowscan, Some(categories)) = (format, checkpoint::categories(&args.checkpoint, config.classes)?) {
        write_atomic(&args.output.join(CATEGORIES), &to_json(CATEGORIES, &categories)?)?;
    }
    said.iter().for_each(|line| warn(format_args!("{}: {line}", args.output.display())));
    let (kind, folder) = (if half { "f16" } else { "f32" }, args.output.display());
    say(format_args!("{count} parameters in {kind}: {folder}"))?;
    load.map_or(Ok(()), |load| say(format_args!("load it: {load}")))?;
    Ok(())
}

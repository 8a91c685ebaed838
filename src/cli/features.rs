//! `rowscan features`: mean encoder features of a data set as safetensors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::terminal::{Device, Outcome, Stop, say, usage};
use crate::data::{Dataset, Split, Transform};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::infer::features::{mean_features, open_backbone};
use crate::models::{Backbone, Config};
use crate::nn::{Params, Weights};
use crate::run::checkpoint;
use crate::run::record::write_atomic;
use crate::run::weights_on_disk::read;
use crate::train::weights_file::to_bytes;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Checkpoint folder with config.json and model.safetensors.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Data set, as for pretrain.
    #[arg(long)]
    data: String,
    /// Which half of the set: train or test.
    #[arg(long, default_value = "train", value_parser = ["train", "test"])]
    split: String,
    /// Images at a time.
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// safetensors file to write: `features` (N, D) and, if the set has them, `labels` (N).
    #[arg(short, long)]
    output: PathBuf,
}

/// The backbone of a checkpoint's model, with weights of that checkpoint.
pub fn backbone_of(g: &Gpu, folder: &Path, config: &Config) -> Result<(Params, Backbone)> {
    let path = folder.join(crate::train::checkpoint::MODEL);
    open_backbone(g, config, Some(read(&path)?), 0).map_err(|e| Error::file(&path, e))
}

/// Images at a time: as many as wanted, at most all.
pub fn batch_of(wanted: usize, images: usize) -> std::result::Result<usize, Stop> {
    if !(1..=65_536).contains(&wanted) {
        return Err(Stop::Usage(Error::argument("--batch-size", wanted, "1 to 65536")));
    }
    Ok(wanted.min(images))
}

/// The half of a data set with this name.
pub fn open_split(data: &str, split: &str) -> std::result::Result<Dataset, Stop> {
    let split = if split == "test" { Split::Test } else { Split::Train };
    usage(Dataset::open(data, split).map_err(Error::from))
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    let data = Arc::new(open_split(&args.data, &args.split)?);
    let batch = batch_of(args.batch_size, data.len())?;
    let config = checkpoint::config(&args.checkpoint)?; // before anything that takes time
    let g = device.open()?;
    let (_params, backbone) = backbone_of(&g, &args.checkpoint, &config)?;
    let forward = mean_features(&g, &backbone, &config, batch)?;
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    forward.over(&data, Transform::eval(config.image_size as u32), 0, |rows, classes| {
        features.extend_from_slice(rows);
        labels.extend(classes.iter().map(|&label| label as f32));
        Ok(())
    })?;
    let count = features.len() / config.width;
    let mut tensors = Weights::from([("features".to_string(), (vec![count, config.width], features))]);
    if labels.len() == count {
        tensors.insert("labels".into(), (vec![count], labels));
    }
    let bytes = to_bytes(&tensors, [("data".to_string(), args.data.clone())].into())?;
    write_atomic(&args.output, &bytes)?;
    if data.skipped() > 0 {
        tracing::warn!("{} broken images were skipped", data.skipped());
    }
    say(format_args!("{count} × {} features in {}", config.width, args.output.display()))?;
    Ok(())
}

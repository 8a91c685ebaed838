//! `rowscan features`: mean encoder features of a data set as safetensors.

use std::path::PathBuf;
use std::sync::Arc;

use super::reconstruct::open_model;
use super::{Device, Outcome, Stop, say, usage};
use crate::error::Error;
use crate::nn::Weights;
use crate::train::checkpoint;
use crate::train::data::{Dataset, Loader, LoaderOptions, Split, Transform};
use crate::train::features::FeatureExtractor;
use crate::train::record::write_atomic;
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

pub fn run(device: &Device, args: &Args) -> Outcome {
    if !(1..=65_536).contains(&args.batch_size) {
        return Err(Stop::Usage(Error::argument("--batch-size", args.batch_size, "1 to 65536")));
    }
    let split = if args.split == "test" { Split::Test } else { Split::Train };
    let data = Arc::new(usage(Dataset::open(&args.data, split).map_err(Error::from))?);
    let batch_size = args.batch_size.min(data.len());
    checkpoint::config(&args.checkpoint)?; // before anything that takes time
    let g = device.open()?;
    let (config, model) = open_model(&g, &args.checkpoint)?;
    let extractor = FeatureExtractor::new(&g, model.encoder(), &config, batch_size)?;
    let each = config.image_size * config.image_size * 3;
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    let options = LoaderOptions::new(batch_size, Transform::eval(config.image_size as u32));
    for batch in Loader::eval(data.clone(), &options).map_err(Error::from)? {
        let mut batch = batch.map_err(Error::from)?;
        let count = batch.samples.len();
        batch.images.resize(batch_size * each, 0); // the last batch may be short
        features.extend_from_slice(&pollster::block_on(extractor.run(&batch.images))?[..count * config.width]);
        labels.extend(batch.labels.iter().map(|&label| label as f32));
    }
    let count = features.len() / config.width;
    let mut tensors = Weights::from([("features".to_string(), (vec![count, config.width], features))]);
    if labels.len() == count {
        tensors.insert("labels".into(), (vec![count], labels));
    }
    let bytes = to_bytes(&tensors, [("data".to_string(), args.data.clone())].into())?;
    write_atomic(&args.output, &bytes).map_err(Error::from)?;
    if data.skipped() > 0 {
        tracing::warn!("{} broken images were skipped", data.skipped());
    }
    say(format_args!("{count} × {} features in {}", config.width, args.output.display()))?;
    Ok(())
}

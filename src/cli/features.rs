//! `rowscan features`: mean encoder features of a data set as safetensors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;

use super::embedding_map::{Embedding, table_beside};
use super::model_args::EmaArgs;
use super::unused::{Given, of_test_views, refuse, rules};
use crate::cli::terminal::{Device, Outcome, Stop, say, usage, warn};
use crate::data::{Dataset, PixelLabels, Split, Transform, rescan};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::infer::features::FrozenEncoder;
use crate::models::{Config, TestView};
use crate::nn::Weights;
use crate::run::checkpoint;
use crate::run::pictures::{seen, seen_side};
use crate::run::record::{expect_folders, write_atomic};
use crate::run::weights_on_disk::{expect_finite, read};
use crate::train::weights_file::{Integers, to_bytes_with};

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
    /// Look through the data set anew, whatever was remembered of it.
    #[arg(long)]
    rescan: bool,
    /// Images at a time.
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Share of the shorter side that is kept of an image; by default the model's own, mostly 0.875.
    #[arg(long)]
    crop_ratio: Option<f64>,
    #[command(flatten)]
    ema: EmaArgs,
    /// SVG to draw: the features by their first two principal components, with thumbnails; a CSV of the same places is
    /// written beside it.
    #[arg(long, value_name = "SVG")]
    map: Option<PathBuf>,
    /// safetensors file to write: `features` (N, D) in f32, `indices` (N) of the images in the set and, if the set has
    /// them, `labels` (N), both in int64; `names` of the images in its metadata.
    #[arg(short, long)]
    output: PathBuf,
}

/// The encoder of a checkpoint's model. It says what its features are, and which tensors they do not depend on.
pub fn encoder_of(g: &Gpu, folder: &Path, config: &Config, ema: EmaArgs) -> Result<FrozenEncoder> {
    let path = ema.file(folder)?.0;
    let weights = read(&path)?;
    expect_finite(&path, &weights)?;
    let encoder = FrozenEncoder::open(g, config, Some(weights), 0).map_err(|e| Error::file(&path, e))?;
    warn(format_args!("features: {encoder}"));
    Ok(encoder)
}

/// How images are cut: as `view` says, but for the share of the shorter side if it is given.
pub fn view_of(config: &Config, view: TestView, crop_ratio: Option<f64>) -> Result<Transform> {
    if let Some(ratio) = crop_ratio {
        refuse(&Given::from_iter([("crop-ratio".to_owned(), ratio.into())]), &rules([of_test_views(config)]))?;
    }
    let crop_ratio = crop_ratio.unwrap_or(view.crop_ratio);
    let transform = Transform::testing(config, TestView { crop_ratio, ..view });
    transform.check()?;
    Ok(transform)
}

/// Images at a time: as many as wanted, at most all.
pub fn batch_of(wanted: usize, images: usize) -> std::result::Result<usize, Stop> {
    if !(1..=65_536).contains(&wanted) {
        return Err(Stop::Usage(Error::argument("--batch-size", wanted, "1 to 65536")));
    }
    Ok(wanted.min(images))
}

/// Sees to it that folders are listed anew, if that is wanted.
pub fn listed_anew(wanted: bool) {
    if wanted {
        rescan();
    }
}

/// The half of a data set with this name.
pub fn open_split(data: &str, split: &str) -> std::result::Result<Dataset, Stop> {
    open_split_labeled(data, split, &PixelLabels::default())
}

/// The same, with what the values of segmentation maps mean.
pub fn open_split_labeled(data: &str, split: &str, labels: &PixelLabels) -> std::result::Result<Dataset, Stop> {
    let split = if split == "test" { Split::Test } else { Split::Train };
    usage(Dataset::open_labeled(data, split, labels).map_err(Error::from))
}

/// Names of the samples as a JSON list; none, with a warning, where they do not fit the header of a safetensors file,
/// which has at most 100 MB.
fn names(data: &Dataset, samples: &[usize]) -> Result<Option<String>> {
    const MOST: usize = 90_000_000;
    let names: Vec<String> = samples.iter().map(|&sample| data.sample_name(sample)).collect();
    let text = serde_json::to_string(&names).map_err(|e| Error::Internal(format!("names as JSON: {e}")))?;
    // the header quotes the list once more
    if text.len() + text.matches(['"', '\\']).count() > MOST {
        tracing::warn!(
            "the names of {} images do not fit the file: its tensor `indices` says which they are",
            names.len()
        );
        return Ok(None);
    }
    Ok(Some(text))
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    usage(args.map.as_deref().map_or(Ok(PathBuf::new()), table_beside))?;
    device.world.from_first(|| expect_folders([&args.output].into_iter().chain(&args.map)))?;
    listed_anew(args.rescan);
    let data = Arc::new(open_split(&args.data, &args.split)?);
    let batch = batch_of(args.batch_size, data.len())?;
    let config = checkpoint::config_of_images(&args.checkpoint, "features of whole images")?;
    let view = usage(view_of(&config, config.test_view, args.crop_ratio))?;
    let g = device.open()?;
    let encoder = encoder_of(&g, &args.checkpoint, &config, args.ema)?;
    let forward = encoder.program(&g, &config, batch)?;
    let (mut features, mut labels, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    let world = &device.world;
    forward.over_shared(world, &data, view, (world.threads(0), 0), |rows, batch| {
        features.extend_from_slice(rows);
        labels.extend(batch.labels.iter().map(|&label| i64::from(label)));
        samples.extend_from_slice(&batch.samples);
        Ok(())
    })?;
    let skipped = world.total(data.skipped())?;
    if !world.leads() {
        return Ok(()); // the first process writes what all have computed
    }
    let count = features.len() / config.width;
    if let Some(picture) = &args.map {
        let names: Vec<String> = samples.iter().map(|&sample| data.sample_name(sample)).collect();
        let labels = if labels.len() == count { &labels[..] } else { &[] };
        let (title, classes) = (format!("{} on {}", config.name, data.spec()), data.classes());
        let width = config.width;
        let map = Embedding { features: &features, width, names: &names, labels, classes, title: &title };
        let side = seen_side(&config) as u32;
        map.write(picture, |row| {
            let bytes = data.shown(samples[row], &view).ok()?; // one that was read before, so hardly ever broken
            RgbImage::from_raw(side, side, seen(&config, &bytes).into_owned())
        })?;
    }
    let tensors = Weights::from([("features".to_string(), (vec![count, config.width], features))]);
    let mut integers = Integers::from([("indices".to_string(), samples.iter().map(|&sample| sample as i64).collect())]);
    if labels.len() == count {
        integers.insert("labels".into(), labels);
    }
    let mut metadata = HashMap::from([
        ("data".to_string(), args.data.clone()),
        ("features".into(), encoder.to_string()),
        ("checkpoint".into(), args.checkpoint.display().to_string()),
    ]);
    metadata.extend(names(&data, &samples)?.map(|names| ("names".to_string(), names)));
    let bytes = to_bytes_with(&tensors, &integers, metadata)?;
    write_atomic(&args.output, &bytes)?;
    if skipped > 0 {
        tracing::warn!("{skipped} broken {} were skipped: they have no row", config.samples());
    }
    say(format_args!("{count} × {} features in {}", config.width, args.output.display()))?;
    if let Some(picture) = &args.map {
        say(format_args!("their map in {} and {}", picture.display(), picture.with_extension("csv").display()))?;
    }
    Ok(())
}

//! `rowscan eval`: accuracy of a classifier on a labeled data set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::features::{batch_of, listed_anew, open_split};
use super::model_args::EmaArgs;
use crate::cli::terminal::{Device, Outcome, say, usage, warn};
use crate::data::{Dataset, Transform, imagenet};
use crate::error::{Error, Result};
use crate::infer::scores::scores_of;
use crate::infer::scores::{ClassScores, Tally};
use crate::models::{Classifier, Config, Contents, contents};
use crate::nn::{Params, Weights};
use crate::run::checkpoint;
use crate::run::finetune::{evaluate, tested_crop_ratio};
use crate::run::record::{confusion_matrix, write_atomic};
use crate::run::weights_on_disk::{expect_finite, read};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Checkpoint folder with config.json and model.safetensors.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Data set with labels, as for finetune.
    #[arg(long)]
    data: String,
    /// Which half of the set: train or test.
    #[arg(long, default_value = "test", value_parser = ["train", "test"])]
    split: String,
    /// Look through the data set anew, whatever was remembered of it.
    #[arg(long)]
    rescan: bool,
    /// Images to look at, evenly spread over the classes; 0 for all.
    #[arg(long, default_value_t = 0)]
    max_images: usize,
    /// Images at a time.
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Share of the shorter side that is kept of an image; by default as in the run that wrote the checkpoint, or
    /// 0.875.
    #[arg(long)]
    crop_ratio: Option<f64>,
    /// Decoding threads; 0 takes one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    ema: EmaArgs,
    /// Print recall and precision of each class.
    #[arg(long)]
    per_class: bool,
    /// File for all results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// File for the confusion matrix as PNG: a row for each true class, a column for each predicted one.
    #[arg(long)]
    confusion: Option<PathBuf>,
}

/// Names of a classifier's classes, if they are known: from the checkpoint, or ImageNet's.
pub fn class_names(folder: &Path, config: &Config) -> Result<Option<Vec<String>>> {
    if let Some(names) = checkpoint::about(folder)?.classes {
        return Ok(Some(names));
    }
    let synsets = imagenet::synsets();
    Ok((config.classes == synsets.len()).then(|| synsets.iter().map(|s| s.name.to_owned()).collect()))
}

/// The data set with its labels in the model's numbering.
fn numbered(data: Dataset, folder: &Path, config: &Config) -> Result<Dataset> {
    data.require_labels()?;
    Ok(match class_names(folder, config)? {
        Some(names) if names.len() == config.classes => data.numbered_as(&names)?,
        Some(names) => {
            let reason = format!("names {} classes, the model has {}", names.len(), config.classes);
            return Err(Error::file(folder.join(crate::train::checkpoint::CLASSES), reason));
        }
        None => {
            let names = data.require_classes(config.classes)?;
            let first = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            warn(format_args!(
                "{} does not name its classes: class 0, 1, … are taken to be {first} … as the data set has them. If \
                 they are not, write their names in order to classes.json, a JSON list, in that folder",
                folder.display()
            ));
            data
        }
    })
}

/// Refuses weights that nobody trained to classify.
fn expect_classifier(path: &Path, config: &Config, weights: &Weights) -> Result<()> {
    let found = contents(weights);
    if found == Contents::Classifier && config.classes > 0 {
        return Ok(());
    }
    let advice = "fine-tune it on the classes and evaluate that, or measure its features with `rowscan probe`";
    Err(Error::file(path, format!("holds {found}, which scores no classes; expected a classifier: {advice}")))
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    let folder = &args.checkpoint;
    let config = checkpoint::config(folder)?; // before anything that takes time
    let (path, average) = args.ema.file(folder)?;
    let weights = read(&path)?;
    expect_classifier(&path, &config, &weights)?;
    expect_finite(&path, &weights)?;
    let crop_ratio = args.crop_ratio.map_or_else(|| tested_crop_ratio(folder), Ok)?;
    let transform = Transform::Eval { size: config.image_size as u32, crop_ratio };
    usage(transform.check().map_err(Error::from))?;
    listed_anew(args.rescan);
    let data = open_split(&args.data, &args.split)?.limited(args.max_images).map_err(Error::from);
    let data = Arc::new(numbered(usage(data)?, folder, &config)?);
    let batch = batch_of(args.batch_size, data.len())?;
    let g = device.open()?;
    let mut params = Params::new(&g);
    let model = Classifier::new(&g, &mut params, &config)?;
    params.load(&g, &weights).map_err(|e| Error::file(&path, e))?;
    let forward = scores_of(&g, &model, &config, batch)?;
    let tally = evaluate(&forward, &data, transform, args.threads)?; // an error if no image can be read
    let scores = tally.scores();
    say(format_args!("{} images, {} classes", tally.images(), config.classes))?;
    say(format_args!("top-1 {:.2}%  top-5 {:.2}%  loss {:.4}", scores.top1, scores.top5, scores.loss))?;
    if args.per_class {
        table(data.classes(), &tally)?;
    }
    if let Some(path) = &args.json {
        write_atomic(path, &to_json(args, average, &data, &tally)?)?;
    }
    if let Some(path) = &args.confusion {
        confusion_matrix(path, tally.confusion(), config.classes)?;
    }
    if data.skipped() > 0 {
        tracing::warn!("{} broken images were skipped: they count neither as right nor as wrong", data.skipped());
    }
    Ok(())
}

/// Prints a line for each class that has images.
fn table(names: &[String], tally: &Tally) -> Result<()> {
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
    say(format_args!("{:>5}  {:<widest$}  {:>7}  {:>8}  {:>9}", "", "class", "images", "recall", "precision"))?;
    let percent = |share: Option<f64>| share.map_or("-".into(), |share| format!("{share:.1}%"));
    for (i, (name, class)) in names.iter().zip(tally.by_class()).enumerate().filter(|(_, (_, c))| c.images > 0) {
        let ClassScores { images, recall, precision } = class;
        let (recall, precision) = (percent(recall), percent(precision));
        say(format_args!("{i:>5}  {name:<widest$}  {images:>7}  {recall:>8}  {precision:>9}"))?;
    }
    Ok(())
}

fn to_json(args: &Args, average: bool, data: &Dataset, tally: &Tally) -> Result<Vec<u8>> {
    let names = data.classes();
    let class = |(name, scores): (&String, ClassScores)| {
        let ClassScores { images, recall, precision } = scores;
        json!({ "name": name, "images": images, "recall": recall, "precision": precision })
    };
    let scores = tally.scores();
    let value = json!({
        "checkpoint": args.checkpoint,
        "data": args.data,
        "split": args.split,
        "ema": average,
        "images": tally.images(),
        "skipped": data.skipped(),
        "loss": scores.loss,
        "top1": scores.top1,
        "top5": scores.top5,
        "classes": names.iter().zip(tally.by_class()).map(class).collect::<Vec<_>>(),
        "confusion": tally.confusion().chunks(names.len().max(1)).collect::<Vec<_>>(),
    });
    serde_json::to_vec_pretty(&value).map_err(|e| Error::Internal(format!("scores as JSON: {e}")))
}

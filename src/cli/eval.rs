//! `rowscan eval`: accuracy of a classifier, or scores of a network for a dense task, on a labeled data set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::classifier::{PassArgs, StoredModel};
use super::dense::{labels_under, objects, scenes};
use super::features::{batch_of, listed_anew, open_split_labeled};
use super::unused::{given, of_labels, refuse, rules};
use super::{detected, segmented};
use crate::cli::terminal::{Device, Outcome, printable, say, usage, warn};
use crate::data::points::CloudView;
use crate::data::{Dataset, PixelLabels, Transform};
use crate::error::{Error, Result};
use crate::infer::scores::{ClassScores, Tally};
use crate::run::finetune::{evaluate, vote};
use crate::run::record::{confusion_matrix, expect_folders, write_atomic};
use crate::train::options::overlay;
use crate::train::segment::settings::LabelArgs;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Checkpoint folder with config.json and model.safetensors.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Data set with labels, as for finetune, segment or detect.
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
    /// Point clouds: also the vote of so many random views of each.
    #[arg(long, default_value_t = 0, value_name = "VIEWS")]
    vote: usize,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    pass: PassArgs,
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

/// The data set with its labels in the model's numbering.
fn numbered(data: Dataset, folder: &Path, model: &StoredModel) -> Result<Dataset> {
    data.require_labels()?;
    if let Some(names) = model.class_names()? {
        return Ok(data.numbered_as(&names)?);
    }
    let names = data.require_classes(model.config.classes)?;
    let first = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    warn(format_args!(
        "{} does not name its classes: class 0, 1, … are taken to be {first} … as the data set has them. If they are \
         not, write their names in order to classes.json, a JSON list, in that folder",
        folder.display()
    ));
    Ok(data)
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    let folder = &args.checkpoint;
    device.world.from_first(|| expect_folders(args.json.iter().chain(&args.confusion)))?;
    let model = StoredModel::read(folder, &args.pass)?;
    usage(refuse(&given(&args.labels), &rules([of_labels(model.segments())])))?;
    if model.segments() || model.detects() {
        return dense(device, args, &model);
    }
    model.expect_classifier(
        "fine-tune it on the classes and evaluate that, or measure its features with `rowscan probe`",
    )?;
    let votes = match (&model.config.points, args.vote) {
        (_, 0) => None,
        (Some(points), 1..=1000) => Some(Transform::Cloud(CloudView::finetuning(points))),
        (Some(_), rounds) => return usage(Err(Error::argument("--vote", rounds, "0 to 1000"))),
        (None, rounds) => return usage(Err(Error::argument("--vote", rounds, "a model on point clouds, which votes"))),
    };
    listed_anew(args.rescan);
    let labels = overlay(PixelLabels::default(), &[&args.labels]);
    let data = open_split_labeled(&args.data, &args.split, &labels)?.limited(args.max_images).map_err(Error::from);
    let data = Arc::new(numbered(usage(data)?, folder, &model)?);
    let batch = batch_of(args.pass.batch_size, data.len())?;
    let forward = model.scores(&device.open()?, batch)?;
    let (world, threads) = (&device.world, device.world.threads(args.pass.threads));
    let tally = evaluate(world, &forward, &data, model.transform, threads)?; // an error if no image can be read
    let (scores, skipped) = (tally.scores(), world.total(data.skipped())?);
    say(format_args!("{} {}, {} classes", tally.images(), model.config.samples(), model.config.classes))?;
    say(format_args!("top-1 {:.2}%  top-5 {:.2}%  loss {:.4}", scores.top1, scores.top5, scores.loss))?;
    if model.config.family.clouds {
        say(format_args!("mean over the classes {:.2}%", tally.mean_recall()))?;
    }
    let mut voted = serde_json::Value::Null;
    if let Some(view) = votes {
        let votes = vote(world, &forward, &data, view, (args.vote, threads))?;
        let single: Vec<f64> = votes.views.iter().map(|view| view.scores().top1).collect();
        let mean = single.iter().sum::<f64>() / single.len() as f64;
        let square = single.iter().map(|top1| (top1 - mean).powi(2)).sum::<f64>() / (single.len().max(2) - 1) as f64;
        let best = single.iter().copied().fold(0.0, f64::max);
        let deviation = square.sqrt();
        say(format_args!("{} views: top-1 {mean:.2} ± {deviation:.2}%, best {best:.2}%", args.vote))?;
        let (top1, classes) = (votes.together.scores().top1, votes.together.mean_recall());
        say(format_args!("their vote: top-1 {top1:.2}%, mean over the classes {classes:.2}%"))?;
        voted = json!({
            "views": single, "mean": mean, "deviation": deviation, "best": best, "top1": top1, "mean_recall": classes,
        });
    }
    if args.per_class {
        table(data.classes(), &tally)?;
    }
    let leads = world.leads();
    if let Some(path) = args.json.as_ref().filter(|_| leads) {
        write_atomic(path, &to_json(args, model.average, skipped, &data, &tally, &voted)?)?;
    }
    if let Some(path) = args.confusion.as_ref().filter(|_| leads) {
        confusion_matrix(path, tally.confusion(), model.config.classes)?;
    }
    if skipped > 0 && leads {
        let what = model.config.samples();
        tracing::warn!("{skipped} broken {what} were skipped: they count neither as right nor as wrong");
    }
    Ok(())
}

/// The scores of a network for a dense task.
fn dense(device: &Device, args: &Args, model: &StoredModel) -> Outcome {
    let unused = [("--vote", args.vote > 0), ("--confusion", args.confusion.is_some())];
    if let Some((flag, _)) = unused.iter().find(|(_, given)| *given) {
        return usage(Err(Error::argument(
            *flag,
            "a value",
            "none: the checkpoint is a network for segmentation or detection",
        )));
    }
    listed_anew(args.rescan);
    let named = if model.detects() { objects(&args.data) } else { scenes(&args.data) };
    let labels = labels_under(&args.checkpoint, &named, &args.labels)?;
    let data = open_split_labeled(&named, &args.split, &labels)?.limited(args.max_images).map_err(Error::from);
    let data = usage(data)?;
    let data = match model.class_names()? {
        Some(names) => usage(data.numbered_as(&names).map_err(Error::from))?,
        None => data,
    };
    match model.detects() {
        true => detected::evaluate(device, model, &data, args.json.as_deref()),
        false => segmented::evaluate(device, model, &data, args.json.as_deref()),
    }
}

/// Prints a line for each class that has images.
fn table(names: &[String], tally: &Tally) -> Result<()> {
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
    say(format_args!("{:>5}  {:<widest$}  {:>7}  {:>8}  {:>9}", "", "class", "images", "recall", "precision"))?;
    let percent = |share: Option<f64>| share.map_or("-".into(), |share| format!("{share:.1}%"));
    for (i, (name, class)) in names.iter().zip(tally.by_class()).enumerate().filter(|(_, (_, c))| c.images > 0) {
        let ClassScores { images, recall, precision } = class;
        let (recall, precision) = (percent(recall), percent(precision));
        let name = printable(name);
        say(format_args!("{i:>5}  {name:<widest$}  {images:>7}  {recall:>8}  {precision:>9}"))?;
    }
    Ok(())
}

fn to_json(
    args: &Args, average: bool, skipped: usize, data: &Dataset, tally: &Tally, voted: &serde_json::Value,
) -> Result<Vec<u8>> {
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
        "skipped": skipped,
        "loss": scores.loss,
        "top1": scores.top1,
        "top5": scores.top5,
        "mean_recall": tally.mean_recall(),
        "vote": voted,
        "classes": names.iter().zip(tally.by_class()).map(class).collect::<Vec<_>>(),
        "confusion": tally.confusion().chunks(names.len().max(1)).collect::<Vec<_>>(),
    });
    serde_json::to_vec_pretty(&value).map_err(|e| Error::Internal(format!("scores as JSON: {e}")))
}

//! `rowscan predict`: what a checkpoint sees in images.

mod folder;
mod format;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use self::folder::Folder;
use self::format::{Format, NamedClass, NamedImage};
use super::classifier::{PassArgs, StoredModel};
use super::dense::{labels_under, objects, scenes};
use super::detected::{self, Shown};
use super::features::{batch_of, listed_anew, open_split_labeled};
use super::segmented;
use super::unused::{Unused, given, of_labels, refuse, rules};
use crate::cli::terminal::{Device, Outcome, Stop, say, usage, warn};
use crate::data::{DataError, Dataset, PixelLabels};
use crate::error::{Error, Result};
use crate::infer::predict::ClassProbability;
use crate::models::Contents;
use crate::run::pictures::{seen, seen_side};
use crate::run::predict::{PredictedImage, predict_classes};
use crate::train::options::overlay;
use crate::train::segment::settings::LabelArgs;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("seen").args(["images", "data"]).required(true)))]
pub struct Args {
    /// Checkpoint folder with config.json and model.safetensors.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Images.
    #[arg(value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Data set in place of images, as for eval; labels are not needed.
    #[arg(long)]
    data: Option<String>,
    /// Which half of the set: train or test. By default test, or train where there is no other.
    #[arg(long, conflicts_with = "images", value_parser = ["train", "test"])]
    split: Option<String>,
    /// List the folders of the data set anew, whatever was remembered of them.
    #[arg(long, conflicts_with = "images")]
    rescan: bool,
    /// Images of the set to look at, evenly spread over its order; 0 for all.
    #[arg(long, conflicts_with = "images", default_value_t = 0)]
    max_images: usize,
    /// A classifier: classes to name for each image, the most likely ones, 5 by default; all if there are fewer.
    #[arg(long)]
    top_k: Option<usize>,
    /// A detector: the least score of an object that is named and drawn, 0 to 1, by default 0.5.
    #[arg(long)]
    min_score: Option<f32>,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    pass: PassArgs,
    /// Print a JSON array with an element for each image.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV with a row for each image and class.
    #[arg(long)]
    csv: bool,
    /// Folder for predictions.json, predictions.csv and predictions.svg, a picture of the first 64 images with their
    /// classes; of a segmentation network for a .png of classes and a .svg in colors of each image; of a detector for a
    /// .svg with the objects of each image, and results.json, all that was found in COCO's form.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Args {
    /// The least score that is shown.
    fn least(&self) -> Result<f32> {
        let least = self.min_score.unwrap_or(0.5);
        let fine = (0.0..=1.0).contains(&least);
        if fine { Ok(least) } else { Err(Error::argument("--min-score", least, "0 to 1")) }
    }

    /// Refuses options that change nothing in what the model predicts.
    fn expect_used(&self, model: &StoredModel) -> Result<()> {
        let numbers = [("top-k", self.top_k.map(Value::from)), ("min-score", self.min_score.map(Value::from))];
        let numbers = numbers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let all = given(&self.labels).into_iter().chain(numbers).collect();
        let rule = |unused: bool, options, expected| unused.then(|| Unused::new(options, &[], expected));
        let unused = rules([
            rule(model.segments() || model.detects(), &["top-k"], "a classifier, which names classes of whole images"),
            rule(!model.detects(), &["min-score"], "a detector, which finds objects with scores"),
            of_labels(model.segments()),
        ]);
        refuse(&all, &unused)
    }
}

/// What to do with a checkpoint that is no classifier.
fn instead(found: Contents) -> String {
    let pictures = match found {
        Contents::Map | Contents::Mae | Contents::Diffusion | Contents::Arm => {
            " draw the patches that it predicts with `rowscan reconstruct`,"
        }
        Contents::Classifier | Contents::Encoder | Contents::Contrastive | Contents::Points => "",
    };
    format!(
        "fine-tune it on the classes with `rowscan finetune`,{pictures} or write its features with `rowscan features`"
    )
}

/// The images to look at. `named` is what a data set of this name is here.
fn images(args: &Args, named: impl Fn(&str) -> String) -> std::result::Result<Dataset, Stop> {
    let Some(data) = &args.data.as_deref().map(named) else {
        if !overlay(PixelLabels::default(), &[&args.labels]).is_default() {
            let what = "--num-classes, --reduce-zero-label or --color-table";
            return usage(Err(Error::argument(what, "a value", "none without --data: images have no annotations")));
        }
        return Ok(Dataset::from_paths(args.images.clone()).map_err(Error::from)?);
    };
    listed_anew(args.rescan);
    let labels = labels_under(&args.checkpoint, data, &args.labels)?;
    let open = |split: &str| open_split_labeled(data, split, &labels);
    let set = match (open(args.split.as_deref().unwrap_or("test")), &args.split) {
        (Err(Stop::Failure(Error::Data(DataError::NoSplit { .. }))), None) => open("train"),
        (opened, _) => opened,
    };
    usage(set?.limited(args.max_images).map_err(Error::from))
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    if args.top_k == Some(0) {
        return Err(Stop::Usage(Error::argument("--top-k", 0, "at least 1")));
    }
    let model = StoredModel::read(&args.checkpoint, &args.pass)?;
    usage(args.expect_used(&model))?;
    let least = usage(args.least())?;
    // what a checkpoint holds decides what is predicted
    if model.segments() {
        if args.csv {
            return usage(Err(Error::argument("--csv", "given", "--json or a table: classes are of pixels")));
        }
        let data = images(args, scenes)?;
        return segmented::predict(device, &model, &data, args.json, args.output.as_deref());
    }
    if model.detects() {
        if args.csv {
            return usage(Err(Error::argument("--csv", "given", "--json or a table: an image has many objects")));
        }
        let data = images(args, objects)?;
        let shown = Shown { least, json: args.json, output: args.output.as_deref() };
        return detected::predict(device, &model, &data, shown);
    }
    model.expect_classifier(&instead(model.contents()))?;
    classify(device, args, &model)
}

fn classify(device: &Device, args: &Args, model: &StoredModel) -> Outcome {
    let names = model.class_names()?.unwrap_or_default();
    let data = Arc::new(images(args, str::to_owned)?);
    let batch = batch_of(args.pass.batch_size, data.len())?;
    let forward = model.scores(&device.open()?, batch)?;
    let format = match (args.json, args.csv) {
        (true, _) => Format::Json,
        (_, true) => Format::Csv,
        _ => Format::Table { digits: model.config.classes.saturating_sub(1).to_string().len() },
    };
    // Opened by the first image: where none can be read, nothing is left behind.
    let mut folder = None;
    let mut predicted = 0;
    predict_classes(&forward, &data, model.transform, args.pass.threads, args.top_k.unwrap_or(5), |found| {
        let PredictedImage { sample, pixels, classes } = found;
        if sample == 0 {
            folder = args.output.as_ref().map(|dir| Folder::open(dir, seen_side(&model.config))).transpose()?;
            format.head().map_or(Ok(()), say)?;
        }
        let image = named(data.sample_name(sample), classes, &names);
        predicted += usize::from(image.error.is_none());
        let last = sample + 1 == data.len();
        format.lines(&image, last)?.iter().try_for_each(say)?;
        folder.as_mut().map_or(Ok(()), |folder| folder.add(&image, &seen(&model.config, pixels), last))
    })?;
    format.foot().map_or(Ok(()), say)?;
    if predicted == 0 {
        let reason = format!("no image has finite scores, of {} in {}", data.len(), data.spec());
        return Err(Error::file(&args.checkpoint, reason).into());
    }
    if data.skipped() > 0 {
        tracing::warn!(
            "{} broken {} were skipped: nothing is predicted for them",
            data.skipped(),
            model.config.samples()
        );
    }
    if let Some(folder) = folder {
        warn(folder.finish(predicted)?); // stdout may be JSON
    }
    Ok(())
}

/// Predictions with the names of their classes. A class without a name, or with an empty one, is called by its number.
fn named(file: String, classes: Result<Vec<ClassProbability>, String>, names: &[String]) -> NamedImage {
    let name = |class: usize| {
        let known = names.get(class).filter(|name| !name.trim().is_empty());
        known.cloned().unwrap_or_else(|| format!("class {class}"))
    };
    let with_name = |ClassProbability { class, probability }| NamedClass { class, name: name(class), probability };
    match classes {
        Ok(classes) => NamedImage { file, predictions: classes.into_iter().map(with_name).collect(), error: None },
        Err(reason) => NamedImage { file, predictions: vec![], error: Some(reason) },
    }
}

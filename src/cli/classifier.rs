//! A checkpoint's model as `eval` and `predict` open it: which weights, how images are cut, how many at a time.

use std::path::{Path, PathBuf};

use super::features::view_of;
use super::model_args::EmaArgs;
use crate::cli::terminal::{Stop, usage};
use crate::data::{Transform, imagenet};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::infer::detect::DetectionProgram;
use crate::infer::program::InferenceProgram;
use crate::infer::scores::scores_of;
use crate::models::dense::Dense;
use crate::models::{Classifier, Config, Contents, Detector, Segmenter, contents};
use crate::nn::{Params, Weights};
use crate::run::checkpoint;
use crate::run::detect::finder;
use crate::run::finetune::tested_view;
use crate::run::segment::scorer;
use crate::run::weights_on_disk::{expect_finite, read};

/// How a checkpoint's model goes over images.
#[derive(Debug, clap::Args)]
pub struct PassArgs {
    /// Images at a time.
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// A classifier of images: share of the shorter side that is kept of an image; by default as in the run that wrote
    /// the checkpoint, or the model's own, mostly 0.875.
    #[arg(long)]
    crop_ratio: Option<f64>,
    /// Decoding threads; 0 takes one per core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    #[command(flatten)]
    ema: EmaArgs,
}

/// A checkpoint's model, read but not on a device yet.
pub struct StoredModel {
    pub config: Config,
    /// What an image becomes before the model sees it: the same whichever command asks.
    pub transform: Transform,
    /// Whether the weights are a moving average.
    pub average: bool,
    folder: PathBuf,
    path: PathBuf,
    weights: Weights,
}

impl StoredModel {
    /// Reads the checkpoint in `folder`.
    pub fn read(folder: &Path, args: &PassArgs) -> std::result::Result<Self, Stop> {
        let config = checkpoint::config(folder)?; // before anything that takes time
        let transform = usage(view_of(&config, tested_view(folder, &config)?, args.crop_ratio))?;
        let (path, average) = args.ema.file(folder)?;
        let weights = read(&path)?;
        Ok(Self { config, transform, average, folder: folder.to_owned(), path, weights })
    }

    /// What the weights are of.
    pub fn contents(&self) -> Contents {
        contents(&self.weights)
    }

    /// Refuses weights that nobody trained to classify, with `advice`, and those that are not finite.
    pub fn expect_classifier(&self, advice: &str) -> Result<()> {
        if self.contents() != Contents::Classifier || self.config.classes == 0 {
            let reason = format!("holds {}, which scores no classes; expected a classifier: {advice}", self.contents());
            return Err(Error::file(&self.path, reason));
        }
        expect_finite(&self.path, &self.weights)
    }

    /// Names of the classes, one for each, if they are known: from the checkpoint, or ImageNet's.
    pub fn class_names(&self) -> Result<Option<Vec<String>>> {
        let count = self.config.classes;
        match checkpoint::about(&self.folder)?.classes {
            Some(names) if names.len() == count => Ok(Some(names)),
            Some(names) => {
                let reason = format!("names {} classes, the model has {count}", names.len());
                Err(Error::file(self.folder.join(crate::train::checkpoint::CLASSES), reason))
            }
            None => {
                let synsets = imagenet::synsets();
                Ok((count == synsets.len()).then(|| synsets.iter().map(|s| s.name.to_owned()).collect()))
            }
        }
    }

    /// Names of the classes, or their numbers.
    pub fn names(&self) -> Result<Vec<String>> {
        let known = self.class_names()?.unwrap_or_default();
        let name = |class: usize| known.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
        Ok((0..self.config.classes).map(name).collect())
    }

    /// The numbers of the categories of the classes, if the checkpoint knows them.
    pub fn categories(&self) -> Result<Option<Vec<Option<u64>>>> {
        checkpoint::categories(&self.folder, self.config.classes)
    }

    /// Whether it is a detector.
    pub fn detects(&self) -> bool {
        matches!(self.config.dense, Some(Dense::Detection(_)))
    }

    /// A program that finds objects, for `count` images.
    pub fn objects(&self, g: &Gpu, count: usize) -> Result<DetectionProgram> {
        expect_finite(&self.path, &self.weights)?;
        let mut params = Params::new(g);
        let model = Detector::new(g, &mut params, &self.config)?;
        params.load(g, &self.weights).map_err(|e| Error::file(&self.path, e))?;
        finder(g, &model, &self.config, count)
    }

    /// Whether it is a segmentation network.
    pub fn segments(&self) -> bool {
        matches!(self.config.dense, Some(Dense::Segmentation(_)))
    }

    /// A forward program from windows of images to the scores of the classes of their cells.
    pub fn pixel_scores(&self, g: &Gpu) -> Result<InferenceProgram> {
        expect_finite(&self.path, &self.weights)?;
        let mut params = Params::new(g);
        let model = Segmenter::new(g, &mut params, &self.config)?;
        params.load(g, &self.weights).map_err(|e| Error::file(&self.path, e))?;
        scorer(g, &model, &self.config)
    }

    /// A forward program from `batch` images to the scores of their classes.
    pub fn scores(&self, g: &Gpu, batch: usize) -> Result<InferenceProgram> {
        let mut params = Params::new(g);
        let model = Classifier::new(g, &mut params, &self.config)?;
        params.load(g, &self.weights).map_err(|e| Error::file(&self.path, e))?;
        scores_of(g, &model, &self.config, batch)
    }
}

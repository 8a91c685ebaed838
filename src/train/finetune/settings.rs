//! Settings of fine-tuning: everything that decides the result of a run.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::mixup::{Mix, MixArgs};
use crate::data::Augmentation;
use crate::error::{Error, Result};
use crate::train::options::{Argument, args, group};
use crate::train::settings::{RecipeArgs, RunArgs, RunSettings};
use crate::train::supervised::{SupervisedSettings, Tuning};

/// Settings of a fine-tuning run, stored in `state.json`. A resumed run needs the same.
/// [`recipes`](crate::train::finetune::recipes) has those of the literature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetuneSettings {
    /// Settings that every run has.
    #[serde(flatten)]
    pub run: RunSettings,
    /// Pretrained checkpoint that the weights come from; `None` starts from initial values.
    pub checkpoint: Option<PathBuf>,
    /// Augmentation.
    pub recipe: Augmentation,
    /// Repeated augmentation (DeiT): times that an epoch shows an image, in place of others.
    pub repeats: usize,
    /// Mixing of images, smoothing of targets.
    pub mix: Mix,
    /// Factor on the learning rate from each layer to the one before it (BEiT's layer-wise decay).
    pub layer_decay: f64,
    /// Momentum of the moving average of the weights; `None` keeps no average.
    pub model_ema: Option<f64>,
    /// Share of the shorter side that is kept of a test image.
    pub crop_ratio: f64,
}

/// Whether a moving average of the weights is kept: timm's `--model-ema`, beside `--model-ema-decay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeepAverage(pub bool);

impl Argument<Option<f64>> for KeepAverage {
    /// Keeps a momentum that is set already; otherwise sets timm's default, 0.9999.
    fn set(self, setting: &mut Option<f64>) {
        *setting = self.0.then_some(setting.unwrap_or(0.9999));
    }

    fn of(setting: &Option<f64>) -> Option<Self> {
        Some(Self(setting.is_some()))
    }
}

impl std::str::FromStr for KeepAverage {
    type Err = std::str::ParseBoolError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

args! {
    /// Arguments of what only fine-tuning has.
    pub struct TuningArgs for FinetuneSettings {
        /// Checkpoint folder of a pretrained model to start from; without it --model starts from initial values.
        checkpoint: PathBuf; arg(value_name = "FOLDER"),
        /// Repeated augmentation: how often an epoch shows an image, in place of others.
        repeats: usize,
        /// Factor on the learning rate from each layer to the one before; 1 for one rate everywhere.
        layer_decay: f64,
        /// Momentum of the moving average of the weights.
        model_ema_decay => model_ema: f64,
        /// Keep a moving average of the weights, and test it too.
        model_ema: KeepAverage;
            arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL"),
        /// Share of the shorter side that is kept of a test image.
        crop_ratio: f64,
    }
}

group! {
    /// What one layer says about [`FinetuneSettings`].
    pub struct FinetuneArgs for FinetuneSettings {
        /// Data, batches, learning rates, optimizer.
        run => run: RunArgs,
        /// The augmentation.
        recipe => recipe: RecipeArgs,
        /// Mixing of images, smoothing of targets.
        mix => mix: MixArgs,
        /// Settings that only fine-tuning has.
        tuning => self: TuningArgs,
    }
}

impl AsRef<RunSettings> for FinetuneSettings {
    fn as_ref(&self) -> &RunSettings {
        &self.run
    }
}

impl AsMut<RunSettings> for FinetuneSettings {
    fn as_mut(&mut self) -> &mut RunSettings {
        &mut self.run
    }
}

impl SupervisedSettings for FinetuneSettings {
    fn checkpoint(&self) -> Option<&Path> {
        self.checkpoint.as_deref()
    }

    fn starting_from(self, checkpoint: Option<PathBuf>) -> Self {
        Self { checkpoint, ..self }
    }

    fn tuning(&self) -> Tuning {
        Tuning { layer_decay: self.layer_decay, average: self.model_ema, by_name: false }
    }

    fn check(&self) -> Result<()> {
        self.tuning().check()?;
        let kept = self.crop_ratio;
        if !(kept > 0.0 && kept <= 1.0) {
            return Err(Error::argument("crop ratio", kept, "0 < ratio ≤ 1"));
        }
        self.recipe.check()?;
        self.mix.check()?;
        if !(1..=64).contains(&self.repeats) {
            return Err(Error::argument("repeats", self.repeats, "1 to 64"));
        }
        self.run.check()
    }
}

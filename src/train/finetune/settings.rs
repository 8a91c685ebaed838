//! Everything that decides the result of a fine-tuning run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::mixup::Mix;
use super::step::Tuning;
use crate::data::Augmentation;
use crate::error::{Error, Result};
use crate::train::settings::RunSettings;

/// The settings of a fine-tuning run; a resumed run has to have the same. Stored in `state.json` and written to
/// `finetune.toml`. What a recipe of the literature sets is in [`recipes`](crate::train::finetune::recipes).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What every run has.
    #[serde(flatten)]
    pub run: RunSettings,
    /// The checkpoint that the weights come from, as given; none for initial values.
    pub checkpoint: Option<PathBuf>,
    /// Crops of the images and changes to them.
    pub recipe: Augmentation,
    /// How often an epoch shows an image in place of others.
    pub repeats: usize,
    /// Mixing of images, smoothing of targets.
    pub mix: Mix,
    /// Factor on the learning rate from each layer to the one before.
    pub layer_decay: f64,
    /// Momentum of the moving average of the weights; none keeps no average.
    pub model_ema: Option<f64>,
    /// Share of the shorter side that is kept of a test image.
    pub crop_ratio: f64,
}

impl AsRef<RunSettings> for Settings {
    fn as_ref(&self) -> &RunSettings {
        &self.run
    }
}

impl Settings {
    /// Everything that must hold before anything is opened.
    pub fn check(&self) -> Result<()> {
        let within = |ok: bool, what: &str, got: f64, expected: &str| match ok {
            true => Ok(()),
            false => Err(Error::argument(what.to_owned(), got, expected)),
        };
        within(
            self.layer_decay > 0.0 && self.layer_decay <= 1.0,
            "layer_decay",
            self.layer_decay,
            "above 0, at most 1 (off)",
        )?;
        let m = self.model_ema.unwrap_or(0.0);
        within((0.0..1.0).contains(&m), "model_ema", m, "0 to below 1")?;
        let kept = self.crop_ratio;
        within(kept > 0.0 && kept <= 1.0, "crop ratio", kept, "0 < ratio ≤ 1")?;
        self.recipe.check()?;
        self.mix.check()?;
        if !(1..=64).contains(&self.repeats) {
            return Err(Error::argument("repeats", self.repeats, "1 to 64"));
        }
        self.run.check()
    }

    /// What the step does besides what every step does.
    pub fn tuning(&self) -> Tuning {
        Tuning { layer_decay: self.layer_decay, average: self.model_ema }
    }
}

//! Everything that decides the result of a pretraining run.

use serde::{Deserialize, Serialize};

use super::mask::ratio::MaskRatio;
use super::mask::{MaskStrategy, Masker};
use crate::data::Augmentation;
use crate::error::{Error, Result};
use crate::models::{Config, Method, Objective};
use crate::train::settings::RunSettings;

/// The settings of a pretraining run; a resumed run has to have the same. Stored in `state.json` and written to
/// `pretrain.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What every run has.
    #[serde(flatten)]
    pub run: RunSettings,
    /// Crops of the images and changes to them.
    #[serde(default)]
    pub recipe: Augmentation,
    /// `random`, `sequential` or `diagonal`.
    pub mask: String,
    /// Share of hidden patches, or `None` for the MAP repository's truncated normal around 0.5.
    pub mask_ratio: Option<f64>,
    /// Number of hidden patches in place of their share.
    #[serde(default)]
    pub mask_tokens: Option<usize>,
    /// Method, decoder mask, target.
    #[serde(flatten)]
    pub objective: Objective,
}

impl AsRef<RunSettings> for Settings {
    fn as_ref(&self) -> &RunSettings {
        &self.run
    }
}

impl Default for Settings {
    /// MAP with MAE's optimizer, schedule and augmentation, and half of the patches hidden (src/models/README.md, D-8).
    fn default() -> Self {
        Self::of(Method::default())
    }
}

impl Settings {
    /// The recommended recipe of a method.
    pub fn of(method: Method) -> Self {
        Self {
            run: RunSettings::default(),
            recipe: Augmentation::PRETRAIN,
            mask: "random".into(),
            mask_ratio: Some(method.mask_ratio()),
            mask_tokens: None,
            objective: Objective::of(method),
        }
    }

    /// Everything that must hold before anything is opened.
    pub fn check(&self, config: &Config) -> Result<()> {
        self.masker(config)?;
        self.recipe.check()?;
        self.objective.check(config)?;
        self.run.check()?;
        let (queue, batch) = (self.objective.queue, self.run.batch_size);
        match self.objective.method {
            Method::Contrastive if !queue.is_multiple_of(batch) => {
                Err(Error::argument("queue", queue, format!("a multiple of `batch_size` {batch}")))
            }
            // the queue moves on with every batch, and what was in it is what the gradients of a step are about
            Method::Contrastive if self.run.accum_iter > 1 => {
                Err(Error::argument("accum_iter", self.run.accum_iter, "1 for `method` contrastive"))
            }
            _ => Ok(()),
        }
    }

    /// The draws of masks for a model.
    pub fn masker(&self, config: &Config) -> Result<Masker> {
        let strategy: MaskStrategy = self.mask.parse()?;
        let share = self.mask_ratio.map_or(MaskRatio::MAP_REPO, MaskRatio::Fixed);
        let ratio = match self.objective.method {
            Method::Contrastive => MaskRatio::Fixed(0.0),
            _ => self.mask_tokens.map_or(share, MaskRatio::Count),
        };
        let masker = Masker::new(strategy, ratio, (config.grid(), config.grid_columns()), self.run.seed)?;
        Ok(masker.in_order(config.order, self.objective.order(config)))
    }
}

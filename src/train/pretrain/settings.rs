//! Settings of pretraining: everything that decides the result of a run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::mask::ratio::MaskRatio;
use super::mask::{MaskStrategy, Masker};
use crate::data::Augmentation;
use crate::error::Result;
use crate::models::{Config, DecoderMask, Method, Objective, Order, Target};
#[cfg(feature = "cli")]
use crate::train::options::word;
use crate::train::options::{Layer, Negated, Share, args, group, overlay};
use crate::train::settings::{RecipeArgs, RunArgs, RunSettings};

/// Settings of a pretraining run, stored in `state.json`. A resumed run needs the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainSettings {
    /// Settings that every run has.
    #[serde(flatten)]
    pub run: RunSettings,
    /// Checkpoint that the weights come from; `None` starts from initial values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// Augmentation.
    #[serde(default)]
    pub recipe: Augmentation,
    /// `random`, `sequential` or `diagonal`.
    pub mask: String,
    /// Share of hidden patches; `None` for the MAP repository's truncated normal distribution around 0.5.
    pub mask_ratio: Option<f64>,
    /// Number of hidden patches; it takes the place of their share.
    #[serde(default)]
    pub mask_tokens: Option<usize>,
    /// Method, decoder mask, target.
    #[serde(flatten)]
    pub objective: Objective,
}

args! {
    /// What one layer says about the masks of the encoder.
    pub struct MaskArgs for PretrainSettings {
        /// random, sequential (the last in the order of prediction) or diagonal.
        mask: String; arg(value_parser = ["random", "sequential", "diagonal"]),
        /// Share of hidden patches, or `truncnorm` for the MAP repository's draw around 0.5; at 0 all count. By default
        /// the method's.
        mask_ratio: Share,
        /// Number of hidden patches, in place of their share.
        mask_tokens: usize; arg(conflicts_with = "mask_ratio"),
    }
    given mask_ratio, forget mask_tokens
}

args! {
    /// What one layer says about an [`Objective`].
    pub struct ObjectiveArgs for Objective {
        /// map, mae, ar, ar-shift, local-mae, contrastive, diffusion or arm; on point clouds map or point-mae.
        method: Method,
        /// What the decoder sees: map (its line and those before), ar (what comes before), mae (all) or local-mae (its
        /// line).
        decoder_mask: DecoderMask; arg(value_parser = word::<DecoderMask>()),
        /// Order of prediction: rows or columns; by default the encoder's.
        decode_order: Order; arg(value_parser = word::<Order>()),
        /// Target of the prediction: pixels normalized per patch (MAE's norm_pix_loss), or raw ones.
        target: Target; arg(value_parser = word::<Target>()),
        /// What is added to the variance of a patch that is normalized.
        target_eps: f64,
        /// ar-shift: how many places before a patch the last one is that its prediction depends on.
        shift: usize,
        /// Diffusion: width of the denoiser (1024 in MAR).
        diffusion_width: usize,
        /// Diffusion: residual blocks of the denoiser.
        diffusion_depth: usize,
        /// Diffusion: noise levels drawn for each patch.
        diffusion_repeats: usize,
        /// Diffusion: a squared error alone, without learned variances and their bound.
        no_vlb => vlb: Negated;
            arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL"),
        /// Contrastive: negatives, a multiple of the batch.
        queue: usize,
        /// Contrastive: temperature, which divides similarities.
        temperature: f64,
        /// Contrastive: momentum of the key encoder (0.999 in MoCo).
        key_momentum: f64,
    }
}

group! {
    /// What one layer says about the method and its masks.
    pub struct MethodArgs for PretrainSettings {
        /// The masks of the encoder.
        mask => self: MaskArgs,
        /// The method, and what its loss depends on.
        objective => objective: ObjectiveArgs,
    }
}

args! {
    /// What one layer says about the weights that a run starts from.
    pub struct StartArgs for PretrainSettings {
        /// Checkpoint folder to start from, with its model and method unless others are named; without it the weights
        /// are initial values.
        checkpoint: PathBuf; arg(value_name = "FOLDER"),
    }
}

group! {
    /// What one layer says about [`PretrainSettings`].
    pub struct PretrainArgs for PretrainSettings {
        /// Data, batches, learning rates, optimizer.
        run => run: RunArgs,
        /// The weights at the start.
        start => self: StartArgs,
        /// The augmentation.
        recipe => recipe: RecipeArgs,
        /// The method and its masks.
        method => self: MethodArgs,
    }
}

impl AsRef<RunSettings> for PretrainSettings {
    fn as_ref(&self) -> &RunSettings {
        &self.run
    }
}

impl AsMut<RunSettings> for PretrainSettings {
    fn as_mut(&mut self) -> &mut RunSettings {
        &mut self.run
    }
}

impl Default for PretrainSettings {
    /// MAP with MAE's optimizer, schedule and augmentation, and half of the patches hidden (src/models/README.md, D-8).
    fn default() -> Self {
        Self::of(Method::default())
    }
}

/// Width of the paper's narrowest backbone. MAE's batch and learning rate are for networks from here on.
const PAPER_WIDTH: usize = 192;

/// AdamW's rate for a network in steps of few images, about 8: 4e-3 up to 64 channels, above inversely to the width.
pub fn lr_of_small_batches(config: &Config) -> f64 {
    4e-3 * 64.0 / config.finest_width().max(64) as f64
}

impl PretrainSettings {
    /// The recommended settings for a network: MAE's, and for one that is narrower than the paper's batches and a rate
    /// with which it learns in minutes. `src/models/README.md`, "Leaving the plateau", has the measurements.
    pub fn of_model(config: &Config) -> Self {
        let mut settings = Self::default();
        if config.finest_width() < PAPER_WIDTH {
            let (batch_size, lr) = if config.family.clouds { (32, 1e-3) } else { (8, lr_of_small_batches(config)) };
            settings.run = RunSettings { batch_size, lr: Some(lr), ..settings.run };
        }
        settings
    }

    /// The recommended settings of a method.
    pub fn of(method: Method) -> Self {
        Self {
            run: RunSettings::default(),
            checkpoint: None,
            recipe: Augmentation::PRETRAIN,
            mask: "random".into(),
            mask_ratio: Some(method.mask_ratio),
            mask_tokens: None,
            objective: Objective::of(method),
        }
    }

    /// These settings under `layers`. `method` is the method that the uppermost layer names. If it is another one, its
    /// own defaults come first; data, batches, optimizer and augmentation stay.
    pub fn under<L: Layer<Self>>(self, layers: &[L], method: Option<Method>) -> Self {
        let base = match method {
            Some(method) if method != self.objective.method => {
                Self { run: self.run, checkpoint: self.checkpoint, recipe: self.recipe, ..Self::of(method) }
            }
            _ => self,
        };
        overlay(base, layers)
    }

    /// Refuses settings that cannot work, before anything is opened.
    pub fn check(&self, config: &Config) -> Result<()> {
        self.masker(config)?;
        self.recipe.check()?;
        self.objective.check(config)?;
        self.run.check()?;
        (self.objective.method.check_batches)(&self.objective, self.run.batch_size, self.run.accum_iter)
    }

    /// The masker for a model.
    pub fn masker(&self, config: &Config) -> Result<Masker> {
        let strategy: MaskStrategy = self.mask.parse()?;
        let share = self.mask_ratio.map_or(MaskRatio::MAP_REPO, MaskRatio::Fixed);
        let ratio = match self.objective.method.hides {
            true => self.mask_tokens.map_or(share, MaskRatio::Count),
            false => MaskRatio::Fixed(0.0),
        };
        let masker = Masker::new(strategy, ratio, (config.grid(), config.grid_columns()), self.run.seed)?;
        Ok(masker.in_order(config.order, self.objective.order(config)))
    }
}

//! Settings of every run that trains: data, batches, learning rates, optimizer.

use serde::{Deserialize, Serialize};

use super::optimizer::DecayRule;
#[cfg(feature = "cli")]
use super::options::word;
use super::options::{OrNone, Pair, args, settings};
use super::schedule::{Schedule, scaled_lr};
use super::update::Hyper;
#[cfg(feature = "cli")]
use crate::data::layout_names;
use crate::data::{Augmentation, Place, RandAugment};
use crate::error::{Error, Result};
use crate::gpu::Precision;
use crate::ops::adamw::AdamwConfig;

settings! {
    /// Settings of every run that trains: data, batches, learning rates, optimizer. The defaults are MAE's optimizer
    /// and schedule, for a short run of 20 epochs (src/models/README.md, D-8).
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub struct RunSettings with RunArgs {
        /// Data set to train on, as `Dataset::open` takes it.
        pub data: String = String::new(); arg(help = format!("Data set to train on: {}", layout_names())),
        /// Images to train on, evenly spread over the classes; 0 for all.
        pub max_images: usize = 0; serde(default),
        /// Images at a time (a micro-batch). To pretrain networks narrower than the paper's: 8, or 32 point clouds.
        pub batch_size: usize = 64,
        /// Batches whose gradients make one step.
        pub accum_iter: usize = 1; serde(default = "one"),
        /// Passes over the data.
        pub epochs: u64 = 20,
        /// Learning rate per 256 images of a step.
        pub blr: f64 = 1.5e-4,
        /// Learning rate whatever the batch, in place of --blr. Networks narrower than the paper's are pretrained at
        /// 4e-3, above a width of 64 at 0.256 / width, and on point clouds at 1e-3, unless one of the two is given.
        pub lr: Option<f64> as f64 = None; serde(default),
        /// Learning rate at the end.
        pub min_lr: f64 = 0.0,
        /// Epochs of linear warm-up; fractions are allowed, which --schedule epoch rounds. By default those of the
        /// recipe, or without a recipe a twentieth of --epochs.
        pub warmup_epochs: Option<f64> as f64 = None; serde(default),
        /// cosine (per step), epoch (timm's per epoch), map_repo (the same with that repository's rates), linear
        /// (mmsegmentation's line to --min-lr), or multi_step (detectron2's, a tenth after 8/9 and 26/27 of the run).
        pub schedule: ScheduleKind = ScheduleKind::Cosine; arg(value_parser = word::<ScheduleKind>()),
        /// AdamW weight decay.
        pub weight_decay: f64 = 0.05,
        /// Weights that decay: recommended (matrices only), or all that do in a repository: map_repo, mmsegmentation,
        /// detectron2.
        pub decay_rule: DecayRule = DecayRule::Recommended; arg(value_parser = word::<DecayRule>()),
        /// Betas of AdamW, as `betas` of `torch.optim.AdamW`.
        pub betas: (f64, f64) as Pair = (0.9, 0.95); arg(value_name = "BETA1,BETA2"),
        /// Epsilon of AdamW.
        pub eps: f64 = 1e-8,
        /// Largest gradient norm; 0 for no clipping.
        pub clip_grad: f64 = 0.0,
        /// Seed of weights, order, crops, masks and DropPath.
        pub seed: u64 = 0,
        /// Compute each block again in the backward pass: less memory, more time, the same bits.
        // only written when on, as it does not change the result
        pub checkpoint_blocks: bool = false;
            serde(default, skip_serializing_if = "std::ops::Not::not");
            arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL"),
        /// f32; mixed: products of operands rounded to f16, on cooperative matrices where there are any, with a loss
        /// scale that adapts; high: nearly f32 on cooperative matrices. Weights, sums and all else are f32.
        // only written when not f32, so that runs from before there was a choice compare equal
        pub precision: Precision = Precision::F32;
            serde(default, skip_serializing_if = "Precision::is_f32"); arg(value_parser = word::<Precision>()),
    }
    given blr, forget lr
}

const fn one() -> usize {
    1
}

args! {
    /// What one layer says about a [`Augmentation`]. The names are timm's and DeiT's.
    pub struct RecipeArgs for Augmentation {
        /// Area of the random crop as a share of the image: lowest,highest.
        crop_scale: Pair; arg(value_name = "LOW,HIGH"),
        /// Probability of a mirror image.
        hflip: f64,
        /// RandAugment, such as rand-m9-mstd0.5-inc1, or none. It takes the place of --color-jitter.
        aa: OrNone<RandAugment>,
        /// 3-Augment: greyscale, solarize or blur each image, before --color-jitter.
        three_augment: bool;
            arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL"),
        /// How far brightness, contrast and saturation may go from 1; 0 for none.
        color_jitter: f64,
        /// Probability of erasing a box of each image.
        reprob: f64,
    }
}

/// Kind of learning rate schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// MAE's: linear warm-up and half a cosine, per step.
    #[default]
    Cosine,
    /// timm's: a cosine per epoch, with a warm-up from 1e-6.
    Epoch,
    /// timm's with the rates of the MAP repository.
    MapRepo,
    /// mmsegmentation's: a line down, times the warm-up, per step.
    Linear,
    /// detectron2's: a tenth of the rate at two marks, per step.
    MultiStep,
}

impl RunSettings {
    /// Refuses settings that cannot work, before anything is opened.
    pub fn check(&self) -> Result<()> {
        if !(1..=65_536).contains(&self.batch_size) {
            return Err(Error::argument("batch_size", self.batch_size, "1 to 65536"));
        }
        if !(1..=1_000_000).contains(&self.epochs) {
            return Err(Error::argument("epochs", self.epochs, "1 to 1000000"));
        }
        if !(1..=65_536).contains(&self.accum_iter) {
            return Err(Error::argument("accum_iter", self.accum_iter, "1 to 65536"));
        }
        if let Some(lr) = self.lr.filter(|lr| !(0.0..=1e6).contains(lr)) {
            return Err(Error::argument("lr", lr, "0 to 1000000"));
        }
        if !(0.0..=1e6).contains(&self.blr) {
            return Err(Error::argument("blr", self.blr, "0 to 1000000"));
        }
        self.schedule(1)?;
        self.hyper().map(drop)
    }

    /// Images of a step.
    pub fn images_per_step(&self) -> usize {
        self.batch_size.saturating_mul(self.accum_iter)
    }

    /// Highest learning rate of the run.
    pub fn peak_lr(&self) -> f64 {
        self.lr.unwrap_or_else(|| scaled_lr(self.blr, self.images_per_step(), 256))
    }

    /// Epochs of linear warm-up.
    pub fn warmup(&self) -> f64 {
        self.warmup_epochs.unwrap_or(self.epochs as f64 / 20.0)
    }

    /// The schedule of a run with `steps_per_epoch` steps in an epoch.
    pub fn schedule(&self, steps_per_epoch: u64) -> Result<Schedule> {
        if self.schedule == ScheduleKind::MapRepo {
            return Schedule::map_repo(self.images_per_step(), self.epochs, steps_per_epoch);
        }
        let warmup = self.warmup();
        if !(warmup >= 0.0 && warmup.is_finite()) {
            return Err(Error::argument("warmup_epochs", warmup, "a number from 0 on"));
        }
        if self.schedule == ScheduleKind::Epoch {
            let warmup = (warmup.round() as u64).min(self.epochs);
            return Schedule::epoch_cosine(self.peak_lr(), self.min_lr, warmup, self.epochs, steps_per_epoch);
        }
        let total = self.epochs * steps_per_epoch;
        let warmup = ((warmup * steps_per_epoch as f64).round() as u64).min(total);
        match self.schedule {
            ScheduleKind::Linear => Schedule::linear(self.peak_lr(), self.min_lr, warmup, total),
            ScheduleKind::MultiStep if self.min_lr != 0.0 => {
                let expected = "0 with multi_step, which ends at a hundredth of the peak";
                Err(Error::argument("min_lr", self.min_lr, expected))
            }
            ScheduleKind::MultiStep => Schedule::multi_step(self.peak_lr(), warmup, total),
            _ => Schedule::half_cosine(self.peak_lr(), self.min_lr, warmup, total),
        }
    }

    /// The numbers of optimizer and backward pass.
    pub fn hyper(&self) -> Result<Hyper> {
        let within = |ok: bool, what: &str, got: f64, expected: &str| match ok {
            true => Ok(()),
            false => Err(Error::argument(what.to_owned(), got, expected)),
        };
        within((0.0..=1.0).contains(&self.weight_decay), "weight_decay", self.weight_decay, "0 to 1")?;
        within((0.0..1.0).contains(&self.betas.0), "the first beta", self.betas.0, "0 to below 1")?;
        within((0.0..1.0).contains(&self.betas.1), "the second beta", self.betas.1, "0 to below 1")?;
        within(self.eps > 0.0 && self.eps < 1.0, "eps", self.eps, "above 0 and below 1")?;
        within(self.clip_grad >= 0.0 && self.clip_grad.is_finite(), "clip_grad", self.clip_grad, "0 (off) or a norm")?;
        let clip = (self.clip_grad > 0.0).then_some(self.clip_grad);
        Ok(Hyper {
            adamw: AdamwConfig { betas: self.betas, eps: self.eps as f32 },
            clip,
            accum_iter: self.accum_iter,
            place: Place::ALL,
            weight_decay: self.weight_decay,
            decay_rule: self.decay_rule,
            seed: self.seed,
            checkpoint_blocks: self.checkpoint_blocks,
            precision: self.precision,
        })
    }
}

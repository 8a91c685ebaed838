//! What every run that trains decides: data, batches, learning rates, optimizer.

use serde::{Deserialize, Serialize};

use super::optimizer::{AdamWConfig, DecayRule};
use super::schedule::{Schedule, scaled_lr};
use super::update::Hyper;
use crate::error::{Error, Result};
use crate::gpu::Precision;

/// What every run that trains decides: data, batches, learning rates, optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Data set, as given.
    pub data: String,
    /// Images of the data set to train on, evenly spread over its classes; 0 for all.
    #[serde(default)]
    pub max_images: usize,
    /// Images of a micro-batch.
    pub batch_size: usize,
    /// Micro-batches of a step.
    #[serde(default = "one")]
    pub accum_iter: usize,
    /// Passes over the data.
    pub epochs: u64,
    /// Learning rate per 256 images of a step.
    pub blr: f64,
    /// Learning rate whatever the batch, in place of `blr`.
    #[serde(default)]
    pub lr: Option<f64>,
    /// Learning rate at the end.
    pub min_lr: f64,
    /// Epochs of linear warm-up; fractions are allowed.
    pub warmup_epochs: f64,
    /// `cosine` per step, `epoch` as timm, or `map_repo`.
    pub schedule: ScheduleKind,
    /// Weight decay.
    pub weight_decay: f64,
    /// Which weights decay.
    pub decay_rule: DecayRule,
    /// Betas of AdamW.
    pub betas: (f64, f64),
    /// Epsilon of AdamW.
    pub eps: f64,
    /// Largest gradient norm; 0 for no clipping.
    pub clip_grad: f64,
    /// Seed of weights, order, crops, masks and DropPath.
    pub seed: u64,
    /// Whether each block is computed again in the backward pass, so that only what enters it is kept: less memory, more
    /// time, the same bits. Not written where it is off, as it decides nothing about the result.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub checkpoint_blocks: bool,
    /// Of products, forward and backward. Not written where it is f32: what was trained before there was a choice is the same.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
}

const fn one() -> usize {
    1
}

/// How the learning rate moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Linear warm-up and half a cosine, per step (MAE).
    #[default]
    Cosine,
    /// timm's cosine per epoch, with a warm-up from 1e-6.
    Epoch,
    /// The same with the numbers of the MAP repository.
    MapRepo,
}

impl Default for RunSettings {
    /// MAE's optimizer and schedule, for a short run of 20 epochs (src/models/README.md, D-8).
    fn default() -> Self {
        Self {
            data: String::new(),
            max_images: 0,
            batch_size: 64,
            accum_iter: 1,
            epochs: 20,
            blr: 1.5e-4,
            lr: None,
            min_lr: 0.0,
            warmup_epochs: 1.0,
            schedule: ScheduleKind::default(),
            weight_decay: 0.05,
            decay_rule: DecayRule::default(),
            betas: (0.9, 0.95),
            eps: 1e-8,
            clip_grad: 0.0,
            seed: 0,
            checkpoint_blocks: false,
            precision: Precision::F32,
        }
    }
}

impl RunSettings {
    /// Everything that must hold before anything is opened.
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

    /// The highest learning rate.
    pub fn peak_lr(&self) -> f64 {
        self.lr.unwrap_or_else(|| scaled_lr(self.blr, self.images_per_step(), 256))
    }

    /// The learning rates of a run with so many steps per epoch.
    pub fn schedule(&self, steps_per_epoch: u64) -> Result<Schedule> {
        if self.schedule == ScheduleKind::MapRepo {
            return Schedule::map_repo(self.images_per_step(), self.epochs, steps_per_epoch);
        }
        if !(self.warmup_epochs >= 0.0 && self.warmup_epochs.is_finite()) {
            return Err(Error::argument("warmup_epochs", self.warmup_epochs, "a number from 0 on"));
        }
        if self.schedule == ScheduleKind::Epoch {
            let warmup = (self.warmup_epochs.round() as u64).min(self.epochs);
            return Ok(Schedule::epoch_cosine(self.peak_lr(), self.min_lr, warmup, self.epochs, steps_per_epoch)?);
        }
        let total = self.epochs * steps_per_epoch;
        let warmup = ((self.warmup_epochs * steps_per_epoch as f64).round() as u64).min(total);
        Schedule::half_cosine(self.peak_lr(), self.min_lr, warmup, total)
    }

    /// The optimizer's numbers.
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
            adamw: AdamWConfig { betas: self.betas, eps: self.eps, clip },
            accum_iter: self.accum_iter,
            weight_decay: self.weight_decay,
            decay_rule: self.decay_rule,
            seed: self.seed,
            checkpoint_blocks: self.checkpoint_blocks,
            precision: self.precision,
        })
    }
}

//! Learning rate schedules. A rate is a pure function of the step: there is no state to save.
use crate::error::{Error, Result};
use std::f64::consts::PI;

/// The learning rate of an effective batch of `batch` images: base · batch / reference. MAE's base rate (`--blr`) is
/// per 256 images, that of the published MAP code per 512.
pub fn scaled_lr(base: f64, batch: usize, reference: usize) -> f64 {
    base * batch as f64 / reference.max(1) as f64
}

/// A learning rate schedule. Its constructors check the numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// MAE's schedule, per step: a line from 0 to `peak`, then half a cosine down to `min_lr`.
    HalfCosine {
        /// Learning rate at the end of the warm-up.
        peak: f64,
        /// Learning rate at the end of the run.
        min_lr: f64,
        /// Steps until the peak.
        warmup_steps: u64,
        /// Steps of the whole run, warm-up included.
        total_steps: u64,
    },
    /// timm's `CosineLRScheduler` (0.4.12), as the published MAP code uses it, per epoch: the cosine spans the whole
    /// run, and the warm-up replaces its beginning. timm sets the rate after an epoch, so epoch e has the rate of time
    /// e − 1, and the first two epochs share one.
    EpochCosine {
        /// Start of the cosine and target of the warm-up.
        peak: f64,
        /// Learning rate of the first two epochs.
        warmup_lr: f64,
        /// Learning rate at the end of the cosine.
        min_lr: f64,
        /// Epochs of warm-up.
        warmup_epochs: u64,
        /// Epochs of the whole run, warm-up included.
        epochs: u64,
        /// Steps in one epoch.
        steps_per_epoch: u64,
    },
    /// mmsegmentation's `poly` of power 1, per step: a line from `peak` down to `min_lr`. The warm-up multiplies what
    /// the line gives.
    Linear {
        /// Learning rate at the start of the line.
        peak: f64,
        /// Learning rate at its end.
        min_lr: f64,
        /// The warm-up's first factor.
        first: f64,
        /// Steps until its factor is 1.
        warmup_steps: u64,
        /// Steps of the whole run, warm-up included.
        total_steps: u64,
    },
    /// detectron2's `WarmupMultiStepLR`, per step: a tenth of the rate from each mark on.
    MultiStep {
        /// Learning rate up to the first mark.
        peak: f64,
        /// The warm-up's first factor.
        first: f64,
        /// Steps until its factor is 1.
        warmup_steps: u64,
        /// Steps from which on the rate is a tenth and a hundredth.
        marks: [u64; 2],
    },
}

impl Schedule {
    /// MAE's schedule: warm-up and half a cosine per step.
    pub fn half_cosine(peak: f64, min_lr: f64, warmup_steps: u64, total_steps: u64) -> Result<Self> {
        check_rates(&[("the learning rate", peak), ("min_lr", min_lr)], peak)?;
        check_lengths(warmup_steps, total_steps, "steps")?;
        Ok(Self::HalfCosine { peak, min_lr, warmup_steps, total_steps })
    }

    /// timm's schedule: warm-up from 1e-6 and a cosine per epoch. A run shorter than the warm-up never leaves it.
    pub fn epoch_cosine(peak: f64, min_lr: f64, warmup_epochs: u64, epochs: u64, steps_per_epoch: u64) -> Result<Self> {
        check_rates(&[("the learning rate", peak)], peak)?;
        check_rates(&[("min_lr", min_lr)], f64::MAX)?;
        check_lengths(0, epochs, "epochs")?;
        check_lengths(0, steps_per_epoch, "steps per epoch")?;
        Ok(Self::EpochCosine { peak, warmup_lr: 1e-6, min_lr, warmup_epochs, epochs, steps_per_epoch })
    }

    /// The schedule of the published MAP code: 5e-4 · batch / 512 at the peak, 5 epochs of warm-up from 1e-6, 1e-5 at
    /// the end. `batch` is the effective batch size. A run shorter than the warm-up never leaves it.
    pub fn map_repo(batch: usize, epochs: u64, steps_per_epoch: u64) -> Result<Self> {
        Self::epoch_cosine(scaled_lr(5e-4, batch, 512), 1e-5, 5, epochs, steps_per_epoch)
    }

    /// A line down to `min_lr`, times a warm-up from 1e-6, as Vim's segmentation has it.
    pub fn linear(peak: f64, min_lr: f64, warmup_steps: u64, total_steps: u64) -> Result<Self> {
        check_rates(&[("the learning rate", peak), ("min_lr", min_lr)], peak)?;
        check_lengths(warmup_steps, total_steps, "steps")?;
        Ok(Self::Linear { peak, min_lr, first: 1e-6, warmup_steps, total_steps })
    }

    /// A tenth of the rate after 8/9 of the run and a hundredth after 26/27, with a warm-up from a thousandth, as
    /// ViTDet has it: at 163,889 and 177,546 of 184,375 steps.
    pub fn multi_step(peak: f64, warmup_steps: u64, total_steps: u64) -> Result<Self> {
        check_rates(&[("the learning rate", peak)], peak)?;
        check_lengths(warmup_steps, total_steps, "steps")?;
        let marks = [8.0 / 9.0, 26.0 / 27.0].map(|share: f64| (share * total_steps as f64).round() as u64);
        Ok(Self::MultiStep { peak, first: 1e-3, warmup_steps, marks })
    }

    /// Learning rate of step `step`, counted from 0; past the end it stays at the last value.
    pub fn lr(&self, step: u64) -> f64 {
        match *self {
            Self::HalfCosine { peak, min_lr, warmup_steps, total_steps } => {
                if step < warmup_steps {
                    return peak * step as f64 / warmup_steps as f64;
                }
                cosine(peak, min_lr, step - warmup_steps, total_steps.saturating_sub(warmup_steps))
            }
            Self::EpochCosine { peak, warmup_lr, min_lr, warmup_epochs, epochs, steps_per_epoch } => {
                let time = (step / steps_per_epoch.max(1)).saturating_sub(1);
                if time < warmup_epochs {
                    return warmup_lr + time as f64 * (peak - warmup_lr) / warmup_epochs as f64;
                }
                cosine(peak, min_lr, time, epochs)
            }
            Self::Linear { peak, min_lr, first, warmup_steps, total_steps } => {
                let line = min_lr + (peak - min_lr) * (1.0 - step.min(total_steps) as f64 / total_steps as f64);
                match step < warmup_steps {
                    true => line * (1.0 - (1.0 - step as f64 / warmup_steps as f64) * (1.0 - first)),
                    false => line,
                }
            }
            Self::MultiStep { peak, first, warmup_steps, marks } => {
                let passed = marks.iter().filter(|mark| step >= **mark).count();
                let share = if step < warmup_steps { step as f64 / warmup_steps as f64 } else { 1.0 };
                peak * (first * (1.0 - share) + share) * [1.0, 0.1, 0.01][passed]
            }
        }
    }
}

/// Half a cosine: `peak` at time 0, `min_lr` at time `length` and after.
fn cosine(peak: f64, min_lr: f64, time: u64, length: u64) -> f64 {
    if time >= length {
        return min_lr;
    }
    min_lr + 0.5 * (peak - min_lr) * (1.0 + (PI * time as f64 / length as f64).cos())
}

fn check_rates(rates: &[(&'static str, f64)], peak: f64) -> Result<()> {
    for &(name, rate) in rates {
        if !(rate >= 0.0 && rate <= peak && rate.is_finite()) {
            return Err(Error::argument(name, rate, "a finite number, not below 0 and not above the peak"));
        }
    }
    Ok(())
}

fn check_lengths(warmup: u64, total: u64, unit: &'static str) -> Result<()> {
    if total == 0 {
        return Err(Error::argument("the length of the run", format!("0 {unit}"), "at least 1"));
    }
    if warmup > total {
        let expected = format!("at most the {total} {unit} of the run");
        return Err(Error::argument("the warm-up", format!("{warmup} {unit}"), expected));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1e-6), "{a} is not {b}");
    }

    #[test]
    fn half_cosine_points() {
        let s = Schedule::half_cosine(1.0, 0.1, 40, 140).unwrap();
        for (step, lr) in [(0, 0.0), (1, 0.025), (39, 0.975), (40, 1.0), (90, 0.55), (140, 0.1), (9999, 0.1)] {
            close(s.lr(step), lr);
        }
        // A quarter of the way down: 0.1 + 0.45 · (1 + cos 45°).
        close(s.lr(65), 0.1 + 0.45 * (1.0 + 0.5f64.sqrt()));
        assert!((40..140).all(|t| s.lr(t + 1) < s.lr(t)));
        close(Schedule::half_cosine(1.0, 0.0, 0, 10).unwrap().lr(0), 1.0);
        close(Schedule::half_cosine(1.0, 0.2, 10, 10).unwrap().lr(10), 0.2);
    }

    #[test]
    fn the_published_preset_lags_by_an_epoch() {
        let s = Schedule::map_repo(8192, 1600, 10).unwrap();
        let warm = |t: f64| 1e-6 + t * (8e-3 - 1e-6) / 5.0;
        for (epoch, lr) in [(0, 1e-6), (1, 1e-6), (2, warm(1.0)), (5, warm(4.0))] {
            close(s.lr(epoch * 10), lr);
            close(s.lr(epoch * 10 + 9), lr);
        }
        // The cosine is not shifted by the warm-up: at the warm-up's end it is at time 5 of 1600.
        close(s.lr(60), 1e-5 + 0.5 * (8e-3 - 1e-5) * (1.0 + (PI * 5.0 / 1600.0).cos()));
        close(s.lr(801 * 10), 1e-5 + 0.5 * (8e-3 - 1e-5));
        close(s.lr(1_000_000), 1e-5);
    }

    #[test]
    fn the_schedules_of_dense_tasks() {
        let s = Schedule::linear(1e-4, 0.0, 1500, 60_000).unwrap();
        for (step, lr) in [(0, 1e-10), (1500, 9.75e-5), (30_000, 5e-5), (60_000, 0.0), (99_999, 0.0)] {
            close(s.lr(step), lr);
        }
        close(s.lr(750), 0.5 * (1.0 + 1e-6) * 9.875e-5);
        close(Schedule::linear(1.0, 0.5, 0, 4).unwrap().lr(2), 0.75);
        let s = Schedule::multi_step(1e-4, 250, 184_375).unwrap();
        for (step, lr) in [
            (0, 1e-7),
            (125, 5.005e-5),
            (250, 1e-4),
            (163_888, 1e-4),
            (163_889, 1e-5),
            (177_545, 1e-5),
            (177_546, 1e-6),
        ] {
            close(s.lr(step), lr);
        }
    }

    #[test]
    fn scaling_and_errors() {
        close(scaled_lr(1.5e-4, 4096, 256), 2.4e-3);
        for (bad, hint) in [
            (Schedule::half_cosine(f64::NAN, 0.0, 1, 2), "NaN"),
            (Schedule::half_cosine(1.0, 2.0, 1, 2), "min_lr: got 2"),
            (Schedule::half_cosine(1.0, 0.0, 3, 2), "3 steps, expected at most the 2"),
            (Schedule::half_cosine(1.0, 0.0, 0, 0), "0 steps"),
            (Schedule::map_repo(512, 0, 10), "0 epochs"),
            (Schedule::linear(1.0, 2.0, 0, 2), "min_lr: got 2"),
            (Schedule::multi_step(1.0, 3, 2), "3 steps, expected at most the 2"),
        ] {
            let error = bad.unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}

//! Mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019) of whole batches with soft targets: timm's `Mixup` with
//! `mode='batch'`.
use crate::data::stream::{Stream, StreamPurpose};
use crate::error::{Error, Result};
use crate::train::options::settings;
use serde::{Deserialize, Serialize};

settings! {
    /// How batches are mixed and targets smoothed. The names are timm's.
    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Mix with MixArgs {
        /// Mixup takes its share from Beta(MIXUP, MIXUP); 0 for none.
        pub mixup: f64 = 0.0,
        /// CutMix takes its share from Beta(CUTMIX, CUTMIX); 0 for none.
        pub cutmix: f64 = 0.0,
        /// Probability of mixing a batch at all.
        pub mixup_prob: f64 = 1.0,
        /// Probability of CutMix where both could be.
        pub mixup_switch_prob: f64 = 0.5,
        /// Label smoothing: this much of each target is spread over all classes.
        pub smoothing: f64 = 0.0,
    }
}

impl Mix {
    /// No mixing and no smoothing: targets are one-hot.
    pub const NONE: Self = Self::DEFAULT;

    /// The choice of DeiT, MAE and Vim: Mixup of 0.8 or CutMix of 1 in every batch, smoothing of 0.1.
    pub const DEIT: Self = Self { mixup: 0.8, cutmix: 1.0, smoothing: 0.1, ..Self::NONE };

    /// Refuses settings that cannot work.
    pub fn check(&self) -> Result<()> {
        for (name, alpha) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            if alpha != 0.0 && !(0.01..=1000.0).contains(&alpha) {
                return Err(Error::argument(name, alpha, "0 (off) or 0.01 to 1000"));
            }
        }
        for (name, p) in [
            ("mixup_prob", self.mixup_prob),
            ("mixup_switch_prob", self.mixup_switch_prob),
            ("smoothing", self.smoothing),
        ] {
            if !(0.0..=1.0).contains(&p) {
                return Err(Error::argument(name, p, "0 to 1"));
            }
        }
        Ok(())
    }

    fn draw(&self, s: &mut Stream) -> Draw {
        let (mixup, cutmix) = (self.mixup > 0.0, self.cutmix > 0.0);
        if !(mixup || cutmix) || !s.chance(self.mixup_prob) {
            Draw::Nothing
        } else if cutmix && (!mixup || s.chance(self.mixup_switch_prob)) {
            Draw::CutMix { lambda: s.beta(self.cutmix), y: s.unit(), x: s.unit() }
        } else {
            Draw::Mixup { lambda: s.beta(self.mixup) }
        }
    }
}

/// The draw for one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Draw {
    Nothing,
    Mixup {
        lambda: f64,
    },
    /// A box with the share 1 − λ of the image's area around (x, y), given in sides of the image.
    CutMix {
        lambda: f64,
        y: f64,
        x: f64,
    },
}

/// Mixes the batches of a run. The draw for a batch is a function of seed and step.
#[derive(Clone, Copy, Debug)]
pub struct Mixup {
    mix: Mix,
    classes: usize,
    seed: u64,
}

impl Mixup {
    /// Mixes batches whose labels are below `classes`.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub fn new(mix: Mix, classes: usize, seed: u64) -> Result<Self> {
        mix.check()?;
        if classes == 0 {
            return Err(Error::argument("the number of classes", 0, "at least 1"));
        }
        Ok(Self { mix, classes, seed })
    }

    /// Mixes the `images` (B, S, S, 3) of step `step` in place and returns their targets (B, classes). Image i is mixed
    /// with its partner, image B − 1 − i; the middle image of an odd batch stays as it is.
    ///
    /// The target of an image is λ · y + (1 − λ) · y', where y' belongs to the partner. A smoothed y has 1 − ε + ε /
    /// classes at the label and ε / classes elsewhere. Mixed pixels are rounded to bytes.
    ///
    /// # Errors
    /// Images that are not one square for each label, or a label that is not a class.
    pub fn apply(&self, step: u64, images: &mut [u8], labels: &[u32]) -> Result<Vec<f32>> {
        self.expect_classes(labels)?;
        let bytes = images.len().checked_div(labels.len()).unwrap_or_default();
        let side = (bytes / 3).isqrt();
        if labels.len() * side * side * 3 != images.len() || side == 0 {
            let got = format!("{} bytes for {} labels", images.len(), labels.len());
            return Err(Error::argument("the images to mix", got, "a square of (r, g, b) for each label"));
        }
        let lambda = match self.mix.draw(&mut Stream::new(StreamPurpose::Mix, [self.seed, step, 0])) {
            Draw::Nothing => 1.0,
            Draw::Mixup { lambda } => {
                pairs(images, bytes, |a, b| mixup(a, b, lambda));
                lambda
            }
            Draw::CutMix { lambda, y, x } => {
                let length = (side as f64 * (1.0 - lambda).sqrt()) as usize;
                let (rows, columns) = (around(y, length, side), around(x, length, side));
                pairs(images, bytes, |a, b| {
                    for row in rows.clone() {
                        let line = (row * side + columns.start) * 3..(row * side + columns.end) * 3;
                        a[line.clone()].swap_with_slice(&mut b[line]);
                    }
                });
                1.0 - (rows.len() * columns.len()) as f64 / (side * side) as f64
            }
        };
        Ok(self.targets(labels, lambda))
    }

    /// The targets (B, classes) of samples that are not mixed, as point clouds are.
    ///
    /// # Errors
    /// A label that is not a class.
    pub fn unmixed(&self, labels: &[u32]) -> Result<Vec<f32>> {
        self.expect_classes(labels)?;
        Ok(self.targets(labels, 1.0))
    }

    fn expect_classes(&self, labels: &[u32]) -> Result<()> {
        match labels.iter().find(|&&label| label as usize >= self.classes) {
            Some(label) => {
                Err(Error::argument("a label", label, format!("below {}, the number of classes", self.classes)))
            }
            None => Ok(()),
        }
    }

    fn targets(&self, labels: &[u32], lambda: f64) -> Vec<f32> {
        let off = self.mix.smoothing / self.classes as f64;
        let mut targets = vec![off as f32; labels.len() * self.classes];
        for (row, (&own, &other)) in targets.chunks_exact_mut(self.classes).zip(labels.iter().zip(labels.iter().rev()))
        {
            for (class, share) in [(own, lambda), (other, 1.0 - lambda)] {
                row[class as usize] += (share * (1.0 - self.mix.smoothing)) as f32;
            }
        }
        targets
    }
}

/// The pixels at most `length` / 2 away from pixel ⌊center · side⌋, cut off at the edges of the image.
fn around(center: f64, length: usize, side: usize) -> std::ops::Range<usize> {
    let center = (center * side as f64) as usize;
    center.saturating_sub(length / 2)..(center + length / 2).min(side)
}

/// Calls `f` with each image of the first half of the batch and its partner.
fn pairs(images: &mut [u8], bytes: usize, mut f: impl FnMut(&mut [u8], &mut [u8])) {
    let half = images.len() / bytes / 2 * bytes;
    let (first, rest) = images.split_at_mut(half);
    for (a, b) in first.chunks_exact_mut(bytes).zip(rest.rchunks_exact_mut(bytes)) {
        f(a, b);
    }
}

/// Replaces (a, b) by (λ a + (1 − λ) b, λ b + (1 − λ) a), with λ rounded to a multiple of 2⁻¹⁶.
fn mixup(a: &mut [u8], b: &mut [u8], lambda: f64) {
    let own = (lambda * 65536.0).round() as u32;
    let mixed = |a: u8, b: u8| ((own * u32::from(a) + (65536 - own) * u32::from(b) + 32768) >> 16) as u8;
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = (mixed(*a, *b), mixed(*b, *a));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of `count` images: image i has the value (i + 1) · 10 everywhere and the label i.
    fn batch(count: usize, side: usize) -> (Vec<u8>, Vec<u32>) {
        let images = (0..count).flat_map(|i| vec![10 * (i as u8 + 1); side * side * 3]).collect();
        (images, (0..count as u32).collect())
    }

    fn run(mix: Mix, step: u64, count: usize, side: usize) -> (Vec<u8>, Vec<f32>) {
        let (mut images, labels) = batch(count, side);
        let targets = Mixup::new(mix, count, 3).unwrap().apply(step, &mut images, &labels).unwrap();
        (images, targets)
    }

    #[test]
    fn without_mixing_targets_are_smoothed_one_hot() {
        let (images, targets) = run(Mix { smoothing: 0.1, ..Mix::NONE }, 0, 4, 2);
        assert_eq!(images, batch(4, 2).0);
        for (i, row) in targets.chunks(4).enumerate() {
            for (class, &t) in row.iter().enumerate() {
                let expected = if class == i { 0.925 } else { 0.025 };
                assert!((t - expected).abs() < 1e-7, "{targets:?}");
            }
        }
        assert_eq!(run(Mix { mixup_prob: 0.0, ..Mix::DEIT }, 1, 4, 2).0, images);
    }

    #[test]
    fn mixup_moves_pixels_and_targets_by_the_same_share() {
        let mix = Mix { mixup: 0.8, ..Mix::NONE };
        for (step, count) in [(0, 4), (1, 5), (2, 1)] {
            let (images, targets) = run(mix, step, count, 3);
            assert_eq!((images.clone(), targets.clone()), run(mix, step, count, 3));
            for (i, (image, row)) in images.chunks(27).zip(targets.chunks(count)).enumerate() {
                let partner = count - 1 - i;
                let own = row[i];
                assert!(
                    (row.iter().sum::<f32>() - 1.0).abs() < 1e-6
                        && (own + row[partner] - 1.0 - f32::from(u8::from(i == partner))).abs() < 1e-6
                );
                let value = if i == partner {
                    10.0 * (i + 1) as f32
                } else {
                    10.0 * (own * (i + 1) as f32 + (1.0 - own) * (partner + 1) as f32)
                };
                assert!(image.iter().all(|&v| (f32::from(v) - value).abs() < 0.51), "{image:?} {value}");
            }
        }
        assert_ne!(run(mix, 0, 4, 3).1, run(mix, 1, 4, 3).1);
    }

    #[test]
    fn cutmix_counts_the_pixels_it_moved() {
        let mix = Mix { cutmix: 1.0, smoothing: 0.1, ..Mix::NONE };
        let mut cut = 0;
        for step in 0..50 {
            let (images, targets) = run(mix, step, 4, 7);
            for (i, (image, row)) in images.chunks(147).zip(targets.chunks(4)).enumerate() {
                let moved = image.iter().filter(|&&v| v == 10 * (4 - i as u8)).count();
                let own = image.iter().filter(|&&v| v == 10 * (i as u8 + 1)).count();
                assert_eq!(moved + own, 147);
                let share = own as f32 / 147.0;
                assert!(
                    (row[i] - (0.9 * share + 0.025)).abs() < 1e-6
                        && (row[3 - i] - (0.9 * (1.0 - share) + 0.025)).abs() < 1e-6
                );
                cut += moved;
            }
        }
        // λ is uniform, so boxes would move half of all pixels if the edges did not cut them off and sizes were not
        // rounded down.
        let share = cut as f64 / (50.0 * 4.0 * 147.0);
        assert!((0.15..0.5).contains(&share), "{share}");
    }

    #[test]
    fn boxes_are_those_of_timm() {
        // int(7 · √(1 − λ)) = 4 around pixel 0, 3 and 6; an odd length loses one.
        assert_eq!([0.0, 0.5, 0.99].map(|c| around(c, 4, 7)), [0..2, 1..5, 4..7]);
        assert_eq!(around(0.5, 5, 7), 1..5);
        assert_eq!(around(0.5, 0, 7), 3..3);
    }

    #[test]
    fn both_kinds_come_about_equally_often() {
        let draw = |step| Mix::DEIT.draw(&mut Stream::new(StreamPurpose::Mix, [0, step, 0]));
        let cutmix = (0..2000).filter(|&step| matches!(draw(step), Draw::CutMix { .. })).count();
        // The standard deviation is 22.
        assert!(cutmix.abs_diff(1000) < 110, "{cutmix}");
    }

    #[test]
    fn what_cannot_be_mixed_is_named() {
        let error = |mix, classes| Mixup::new(mix, classes, 0).unwrap_err().to_string();
        assert!(error(Mix { mixup: -1.0, ..Mix::NONE }, 2).contains("mixup: got -1"));
        assert!(error(Mix { smoothing: f64::NAN, ..Mix::NONE }, 2).contains("smoothing: got NaN"));
        assert!(error(Mix::NONE, 0).contains("classes: got 0"));
        let mixer = Mixup::new(Mix::DEIT, 2, 0).unwrap();
        assert!(mixer.apply(0, &mut [0; 24], &[0, 2]).unwrap_err().to_string().contains("a label: got 2"));
        assert!(mixer.apply(0, &mut [0; 25], &[0, 1]).unwrap_err().to_string().contains("25 bytes for 2 labels"));
        assert!(mixer.apply(0, &mut [0; 12], &[]).is_err());
    }

    proptest::proptest! {
        /// Whatever is drawn, a target is a distribution over the classes of the image and its partner; mixing moves
        /// brightness between partners and makes none; and the same step gives the same result.
        #[test]
        fn any_batch_keeps_its_sums(
            count in 1usize..9, side in 1usize..14, step: u64, seed: u64, mixup in 0usize..4, cutmix in 0usize..4,
            smoothing in 0.0f64..=1.0,
        ) {
            let alphas = [0.0, 0.01, 0.8, 30.0];
            let mix = Mix { mixup: alphas[mixup], cutmix: alphas[cutmix], smoothing, ..Mix::NONE };
            let mixer = Mixup::new(mix, count, seed).unwrap();
            let (before, labels) = batch(count, side);
            let mut images = before.clone();
            let targets = mixer.apply(step, &mut images, &labels).unwrap();
            let mut again = before.clone();
            assert_eq!(mixer.apply(step, &mut again, &labels).unwrap(), targets);
            assert_eq!(again, images);
            let bytes = side * side * 3;
            for i in 0..count {
                let row = &targets[i * count..][..count];
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5 && row.iter().all(|&t| t >= 0.0), "{row:?}");
                for k in 0..bytes {
                    let pair = |v: &[u8]| u32::from(v[i * bytes + k]) + u32::from(v[(count - 1 - i) * bytes + k]);
                    assert!(pair(&images).abs_diff(pair(&before)) <= 1);
                }
            }
        }
    }
}

//! The augmentation of training images as options: timm's `create_transform(is_training=True, …)`.
use super::rand_augment::RandAugment;
use crate::error::DataError;
use serde::{Deserialize, Serialize};

/// What happens to a training image, in this order: a random crop is resized and perhaps mirrored, colors change, a box
/// is erased.
///
/// The names are those of timm and DeiT. With RandAugment (`aa`) there is no ColorJitter, as in timm. 3-Augment comes
/// before ColorJitter, as in DeiT III.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Bounds of the area of the crop as a share of the image, drawn uniformly: `scale` of torchvision's
    /// `RandomResizedCrop`.
    pub crop_scale: (f64, f64),
    /// Bounds of width / height of the crop, drawn log-uniformly: `ratio` of the same.
    pub crop_aspect: (f64, f64),
    /// Probability of a mirror image.
    pub hflip: f64,
    /// RandAugment; not together with 3-Augment.
    pub aa: Option<RandAugment>,
    /// 3-Augment: one of grayscale, solarize and blur for each image.
    pub three_augment: bool,
    /// ColorJitter: brightness, contrast and saturation change by factors from 1 − value to 1 + value; 0 for none.
    pub color_jitter: f64,
    /// Random erasing: the probability that a box of the image becomes noise.
    pub reprob: f64,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self::PRETRAIN
    }
}

impl Augmentation {
    /// MAE's augmentation in pretraining: crops with 0.2 to 1 of the image's area, half of them mirrored,
    /// colors unchanged (src/models/README.md, D-8).
    pub const PRETRAIN: Self = Self {
        crop_scale: (0.2, 1.0),
        crop_aspect: (3.0 / 4.0, 4.0 / 3.0),
        hflip: 0.5,
        aa: None,
        three_augment: false,
        color_jitter: 0.0,
        reprob: 0.0,
    };

    /// Training of DeiT and Vim, fine-tuning of MAE: crops with 0.08 to 1 of the area, RandAugment, a box erased in
    /// every fourth image.
    pub const RAND_AUGMENT: Self =
        Self { crop_scale: (0.08, 1.0), aa: Some(RandAugment::DEIT), reprob: 0.25, ..Self::PRETRAIN };

    /// Training of DeiT III and Mamba-R: crops with 0.08 to 1 of the area, 3-Augment, ColorJitter of 0.3.
    pub const THREE_AUGMENT: Self =
        Self { crop_scale: (0.08, 1.0), three_augment: true, color_jitter: 0.3, ..Self::PRETRAIN };

    /// # Errors
    /// Values out of range, RandAugment together with 3-Augment.
    pub fn check(&self) -> Result<(), DataError> {
        let (scale, aspect) = (self.crop_scale, self.crop_aspect);
        if !(scale.0 > 0.0 && scale.0 <= scale.1 && scale.1 <= 1.0) {
            return Err(DataError::setting("crop scale", format!("{scale:?}"), "0 < low ≤ high ≤ 1"));
        }
        if !(aspect.0 > 0.0 && aspect.0 <= aspect.1 && aspect.1.is_finite()) {
            return Err(DataError::setting("crop aspect", format!("{aspect:?}"), "0 < low ≤ high"));
        }
        for (name, p) in [("hflip", self.hflip), ("color_jitter", self.color_jitter), ("reprob", self.reprob)] {
            if !(0.0..=1.0).contains(&p) {
                return Err(DataError::setting(name, p, "0 to 1"));
            }
        }
        if let Some(aa) = self.aa.filter(|_| self.three_augment) {
            return Err(DataError::setting("aa", aa, "none together with `three_augment`"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn augmentations_travel_as_text_and_old_text_still_reads() {
        for augmentation in [Augmentation::PRETRAIN, Augmentation::RAND_AUGMENT, Augmentation::THREE_AUGMENT] {
            augmentation.check().unwrap();
            let text = serde_json::to_string(&augmentation).unwrap();
            assert_eq!(serde_json::from_str::<Augmentation>(&text).unwrap(), augmentation, "{text}");
        }
        assert_eq!(serde_json::from_str::<Augmentation>("{}").unwrap(), Augmentation::PRETRAIN);
    }

    #[test]
    fn bad_settings_are_named() {
        let p = Augmentation::PRETRAIN;
        for (augmentation, hint) in [
            (Augmentation { crop_scale: (0.0, 1.0), ..p }, "crop scale"),
            (Augmentation { crop_aspect: (1.0, f64::INFINITY), ..p }, "crop aspect"),
            (Augmentation { hflip: 1.5, ..p }, "hflip is 1.5"),
            (Augmentation { color_jitter: -0.1, ..p }, "color_jitter is -0.1"),
            (Augmentation { reprob: f64::NAN, ..p }, "reprob is NaN"),
            (Augmentation { aa: Some(RandAugment::DEIT), ..Augmentation::THREE_AUGMENT }, "three_augment"),
        ] {
            let error = augmentation.check().unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}

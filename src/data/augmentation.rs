//! The augmentation of a run as its options say it.
use super::rand_augment::RandAugment;
use crate::error::DataError;
use serde::{Deserialize, Serialize};

/// What happens to a training image: a random crop, resized and maybe mirrored, then colors, then erasing.
///
/// The options are timm's and DeiT's. RandAugment takes the place of ColorJitter; 3-Augment goes before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Bounds of the area of the crop as a share of the image, drawn uniformly.
    pub crop_scale: (f64, f64),
    /// Bounds of width / height of the crop, drawn log-uniformly.
    pub crop_aspect: (f64, f64),
    /// Probability of a mirror image.
    pub hflip: f64,
    /// RandAugment; excludes 3-Augment.
    pub aa: Option<RandAugment>,
    /// One of grayscale, solarize and blur.
    pub three_augment: bool,
    /// How far brightness, contrast and saturation go from 1; 0 for none.
    pub color_jitter: f64,
    /// Probability of erasing a box.
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

    /// Fine-tuning and training of DeiT, MAE and Vim: crops of area (0.08, 1), RandAugment, erasing a quarter.
    pub const RAND_AUGMENT: Self =
        Self { crop_scale: (0.08, 1.0), aa: Some(RandAugment::DEIT), reprob: 0.25, ..Self::PRETRAIN };

    /// 3-Augment of DeiT III and Mamba-R: crops of area (0.08, 1), one of three changes, ColorJitter of 0.3.
    pub const THREE_AUGMENT: Self =
        Self { crop_scale: (0.08, 1.0), three_augment: true, color_jitter: 0.3, ..Self::PRETRAIN };

    /// Refuses settings that cannot work.
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

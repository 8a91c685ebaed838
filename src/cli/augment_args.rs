//! The arguments that describe what happens to a training image.

use serde::{Deserialize, Serialize};

use crate::data::Augmentation;
use crate::error::{Error, Result};

/// What to change in a recipe. The names are timm's and DeiT's.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AugmentArgs {
    /// Area of the random crop as a share of the image: lowest,highest.
    #[arg(long, value_name = "LOW,HIGH")]
    crop_scale: Option<String>,
    /// Probability of a mirror image.
    #[arg(long)]
    hflip: Option<f64>,
    /// RandAugment, such as rand-m9-mstd0.5-inc1, or none. It takes the place of --color-jitter.
    #[arg(long)]
    aa: Option<String>,
    /// 3-Augment: greyscale, solarize or blur each image, before --color-jitter.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    three_augment: Option<bool>,
    /// How far brightness, contrast and saturation may go from 1; 0 for none.
    #[arg(long)]
    color_jitter: Option<f64>,
    /// Probability of erasing a box of each image.
    #[arg(long)]
    reprob: Option<f64>,
}

impl AugmentArgs {
    /// The changes over `recipe`, checked.
    pub fn over(&self, recipe: Augmentation) -> Result<Augmentation> {
        let aa = match self.aa.as_deref() {
            None => recipe.aa,
            Some("none") => None,
            Some(text) => Some(text.parse()?),
        };
        let crop_scale = self.crop_scale.as_deref().map(crop_scale).transpose()?;
        let changed = Augmentation {
            crop_scale: crop_scale.unwrap_or(recipe.crop_scale),
            hflip: self.hflip.unwrap_or(recipe.hflip),
            aa,
            three_augment: self.three_augment.unwrap_or(recipe.three_augment),
            color_jitter: self.color_jitter.unwrap_or(recipe.color_jitter),
            reprob: self.reprob.unwrap_or(recipe.reprob),
            ..recipe
        };
        changed.check()?;
        Ok(changed)
    }

    /// Every argument, as `recipe` has it.
    pub fn of(recipe: &Augmentation) -> Self {
        let (low, high) = recipe.crop_scale;
        Self {
            crop_scale: Some(format!("{low},{high}")),
            hflip: Some(recipe.hflip),
            aa: Some(recipe.aa.map_or("none".into(), |aa| aa.to_string())),
            three_augment: Some(recipe.three_augment),
            color_jitter: Some(recipe.color_jitter),
            reprob: Some(recipe.reprob),
        }
    }
}

/// Two numbers with a comma between them.
fn crop_scale(text: &str) -> Result<(f64, f64)> {
    let parsed = text.split_once(',').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    parsed.ok_or_else(|| Error::argument("--crop-scale", format!("`{text}`"), "lowest,highest, such as 0.2,1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_change_a_recipe_and_write_one_down() {
        for recipe in [Augmentation::PRETRAIN, Augmentation::RAND_AUGMENT, Augmentation::THREE_AUGMENT] {
            assert_eq!(AugmentArgs::default().over(recipe).unwrap(), recipe);
            let resolved = toml::to_string(&AugmentArgs::of(&recipe)).unwrap();
            let read: AugmentArgs = toml::from_str(&resolved).unwrap();
            assert_eq!(read.over(Augmentation::PRETRAIN).unwrap(), recipe, "{resolved}");
        }
        let wrong = AugmentArgs { crop_scale: Some("0.2".into()), ..Default::default() };
        assert!(wrong.over(Augmentation::PRETRAIN).unwrap_err().to_string().contains("such as 0.2,1"));
        let wrong = AugmentArgs { aa: Some("rand-m99".into()), ..Default::default() };
        assert!(wrong.over(Augmentation::PRETRAIN).unwrap_err().to_string().contains("`rand-m99`"));
    }
}

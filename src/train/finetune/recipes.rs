//! Fine-tuning recipes of the literature by name, as in the tables of src/models/README.md, "Fine-tuning recipes".

use super::mixup::Mix;
use crate::data::Augmentation;
use crate::error::{Error, Result};
use crate::models::Config;
use crate::train::finetune::settings::FinetuneSettings;
use crate::train::optimizer::DecayRule;
use crate::train::settings::{RunSettings, ScheduleKind};

/// A fine-tuning recipe: settings, and changes to the model.
#[derive(Debug, Clone, PartialEq)]
pub struct FinetuneRecipe {
    /// The settings; the data set is left open.
    pub settings: FinetuneSettings,
    /// Side of the images in pixels; `None` leaves the model's.
    pub image_size: Option<usize>,
    /// DropPathRate at the last layer.
    pub drop_path: DropPathRate,
}

/// DropPathRate probability of a recipe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DropPathRate {
    /// The same for every model.
    Fixed(f64),
    /// By the width of the model: up to 192, up to 384, up to 768, wider.
    BySize([f64; 4]),
}

impl DropPathRate {
    /// The probability for a model. A network on maps or on point clouds keeps its own, because its paper gives one for
    /// each size.
    pub fn of(self, config: &Config) -> f64 {
        match self {
            _ if config.family.hierarchical || config.family.clouds => config.drop_path,
            Self::Fixed(p) => p,
            Self::BySize(p) => p[[192, 384, 768].iter().filter(|&&w| config.width > w).count()],
        }
    }
}

/// Names of all recipes, with a line about each.
pub const RECIPES: &[(&str, &str)] = &[
    ("mambar_stage1", "Mamba-R, pretraining with labels at 128 pixels"),
    ("mambar_stage2", "Mamba-R, intermediate training at 224 pixels"),
    ("mambar_stage3", "Mamba-R, last fine-tuning at 224 pixels"),
    ("mae_base", "MAE's ViT-B, the default"),
    ("mae_large", "MAE's ViT-L"),
    ("arm_base", "ARM-B"),
    ("arm_large", "ARM-L"),
    ("vim_tiny", "Vim-T from scratch"),
    ("vim_small", "Vim-S from scratch"),
    ("hybrid", "HybridNet in one stage"),
    ("cifar", "small images in a few epochs, ours"),
    ("points", "point clouds, as Point-MAE and Mamba3D; the default for their models"),
];

/// The recipe `name`. `batch_size` · `accum_iter` is the batch of the paper; when they change, the learning rate
/// follows.
///
/// # Errors
/// An unknown name.
pub fn recipe(name: &str) -> Result<FinetuneRecipe> {
    use ScheduleKind::Epoch;
    let three = Augmentation::THREE_AUGMENT;
    let rand = Augmentation::RAND_AUGMENT;
    let unerased = Augmentation { reprob: 0.0, ..rand };
    let deit = Mix::DEIT;
    let sharp = Mix { smoothing: 0.0, ..deit };
    let fixed = DropPathRate::Fixed;
    let row = match name {
        "mambar_stage1" => Row {
            epochs: 300,
            rate: (5e-4, 512),
            layer_decay: 1.0,
            end: (Epoch, 1e-5),
            augment: (three, 3, sharp),
            ema: Some(0.99996),
            image_size: Some(128),
            drop_path: fixed(0.1),
            ..Row::BASE
        },
        "mambar_stage2" => Row {
            rate: (2e-4, 512),
            layer_decay: 1.0,
            end: (Epoch, 1e-5),
            augment: (three, 3, sharp),
            ema: Some(0.99996),
            image_size: Some(224),
            drop_path: fixed(0.4),
            ..Row::BASE
        },
        "mambar_stage3" => Row {
            images: (64, 8),
            epochs: 20,
            lr: Some(1e-5),
            decay: 0.1,
            layer_decay: 1.0,
            end: (Epoch, 1e-5),
            augment: (unerased, 1, deit),
            ema: Some(0.99996),
            image_size: Some(224),
            drop_path: fixed(0.4),
            crop_ratio: 1.0,
            ..Row::BASE
        },
        "mae_base" => Row::BASE,
        "mae_large" => Row { epochs: 50, rate: (1e-3, 256), layer_decay: 0.75, drop_path: fixed(0.2), ..Row::BASE },
        "arm_base" => Row { ema: Some(0.99992), ..Row::BASE },
        "arm_large" => Row { ema: Some(0.99992), layer_decay: 0.75, drop_path: fixed(0.3), ..Row::BASE },
        "vim_tiny" => Row {
            epochs: 300,
            rate: (5e-4, 512),
            decay: 0.1,
            layer_decay: 1.0,
            end: (Epoch, 1e-5),
            augment: (rand, 3, deit),
            ema: Some(0.99996),
            drop_path: fixed(0.0),
            ..Row::BASE
        },
        "vim_small" => Row {
            images: (64, 8),
            epochs: 300,
            rate: (1e-3, 512),
            layer_decay: 1.0,
            end: (Epoch, 1e-5),
            augment: (rand, 3, deit),
            ema: Some(0.99996),
            drop_path: fixed(0.05),
            ..Row::BASE
        },
        // One run of 400 epochs with the numbers of Mamba-R's second stage, but RandAugment in place of 3-Augment
        // (src/models/README.md, D-9).
        "hybrid" => Row {
            epochs: 400,
            rate: (2e-4, 512),
            layer_decay: 1.0,
            end: (Epoch, 1e-5),
            augment: (unerased, 1, sharp),
            ema: Some(0.99996),
            drop_path: DropPathRate::BySize([0.1, 0.1, 0.4, 0.5]),
            ..Row::BASE
        },
        "cifar" => Row {
            images: (128, 1),
            epochs: 30,
            rate: (1e-3, 256),
            warmup: 2.0,
            layer_decay: 0.85,
            augment: (
                Augmentation { crop_scale: (0.4, 1.0), ..Augmentation::PRETRAIN },
                1,
                Mix { cutmix: 1.0, mixup_prob: 0.5, smoothing: 0.1, ..Mix::NONE },
            ),
            rule: DecayRule::Recommended,
            crop_ratio: 1.0,
            ..Row::BASE
        },
        "points" => Row {
            images: (32, 1),
            epochs: 300,
            lr: Some(5e-4),
            layer_decay: 1.0,
            warmup: 10.0,
            clip: 10.0,
            end: (Epoch, 1e-6),
            augment: (Augmentation::PRETRAIN, 1, Mix::NONE),
            rule: DecayRule::Recommended,
            ..Row::BASE
        },
        other => {
            let known: Vec<_> = RECIPES.iter().map(|row| row.0).collect();
            return Err(Error::argument("recipe", format!("`{other}`"), format!("one of {}", known.join(", "))));
        }
    };
    Ok(row.preset())
}

/// The numbers of a recipe.
struct Row {
    /// (images of a micro-batch, micro-batches of a step).
    images: (usize, usize),
    epochs: u64,
    /// (learning rate, images of a step that it is for).
    rate: (f64, usize),
    /// Learning rate whatever the batch; it takes the place of `rate`.
    lr: Option<f64>,
    decay: f64,
    rule: DecayRule,
    layer_decay: f64,
    warmup: f64,
    /// Largest gradient norm; 0 for no clipping.
    clip: f64,
    /// (schedule, learning rate at its end).
    end: (ScheduleKind, f64),
    augment: (Augmentation, usize, Mix),
    ema: Option<f64>,
    image_size: Option<usize>,
    drop_path: DropPathRate,
    crop_ratio: f64,
}

impl Row {
    /// MAE's ViT-B.
    const BASE: Self = Self {
        images: (128, 8),
        epochs: 100,
        rate: (5e-4, 256),
        lr: None,
        decay: 0.05,
        rule: DecayRule::MapRepo,
        layer_decay: 0.65,
        warmup: 5.0,
        clip: 0.0,
        end: (ScheduleKind::Cosine, 1e-6),
        augment: (Augmentation::RAND_AUGMENT, 1, Mix::DEIT),
        ema: None,
        image_size: None,
        drop_path: DropPathRate::Fixed(0.1),
        crop_ratio: 0.875,
    };

    fn preset(self) -> FinetuneRecipe {
        let (recipe, repeats, mix) = self.augment;
        let run = RunSettings {
            batch_size: self.images.0,
            accum_iter: self.images.1,
            epochs: self.epochs,
            blr: self.rate.0 * 256.0 / self.rate.1 as f64,
            lr: self.lr,
            min_lr: self.end.1,
            warmup_epochs: Some(self.warmup),
            clip_grad: self.clip,
            schedule: self.end.0,
            weight_decay: self.decay,
            decay_rule: self.rule,
            betas: (0.9, 0.999),
            ..RunSettings::default()
        };
        let settings = FinetuneSettings {
            run,
            checkpoint: None,
            recipe,
            repeats,
            mix,
            layer_decay: self.layer_decay,
            model_ema: self.ema,
            crop_ratio: self.crop_ratio,
        };
        FinetuneRecipe { settings, image_size: self.image_size, drop_path: self.drop_path }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::supervised::SupervisedSettings;

    fn wide(width: usize) -> Config {
        Config { width, ..Config::preset("micro").unwrap() }
    }

    /// The table in src/models/README.md, "Fine-tuning recipes": epochs, batch, peak rate, weight decay, DropPathRate,
    /// layer decay, moving average.
    #[test]
    fn recipes_are_what_the_tables_say() {
        for (name, epochs, batch, lr, decay, drop_path, layer_decay, ema) in [
            ("mambar_stage1", 300, 1024, 1e-3, 0.05, 0.1, 1.0, Some(0.99996)),
            ("mambar_stage2", 100, 1024, 4e-4, 0.05, 0.4, 1.0, Some(0.99996)),
            ("mambar_stage3", 20, 512, 1e-5, 0.1, 0.4, 1.0, Some(0.99996)),
            ("mae_base", 100, 1024, 2e-3, 0.05, 0.1, 0.65, None),
            ("mae_large", 50, 1024, 4e-3, 0.05, 0.2, 0.75, None),
            ("arm_base", 100, 1024, 2e-3, 0.05, 0.1, 0.65, Some(0.99992)),
            ("arm_large", 100, 1024, 2e-3, 0.05, 0.3, 0.75, Some(0.99992)),
            ("vim_tiny", 300, 1024, 1e-3, 0.1, 0.0, 1.0, Some(0.99996)),
            ("vim_small", 300, 512, 1e-3, 0.05, 0.05, 1.0, Some(0.99996)),
            ("hybrid", 400, 1024, 4e-4, 0.05, 0.4, 1.0, Some(0.99996)),
        ] {
            let FinetuneRecipe { settings, drop_path: p, .. } = recipe(name).unwrap();
            let run = &settings.run;
            assert_eq!((run.epochs, run.images_per_step()), (epochs, batch), "{name}");
            assert!((run.peak_lr() - lr).abs() < 1e-15, "{name}: {}", run.peak_lr());
            assert_eq!((run.weight_decay, p.of(&wide(768)), run.warmup()), (decay, drop_path, 5.0), "{name}");
            assert_eq!((settings.layer_decay, settings.model_ema), (layer_decay, ema), "{name}");
        }
    }

    #[test]
    fn every_recipe_is_known_and_checked() {
        for (name, _) in RECIPES {
            recipe(name).unwrap().settings.check().unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        let error = recipe("mambar").unwrap_err().to_string();
        assert!(error.contains("`mambar`") && error.contains("mambar_stage1, mambar_stage2"), "{error}");
        let sizes = recipe("hybrid").unwrap().drop_path;
        assert_eq!([192, 384, 768, 1024].map(|width| sizes.of(&wide(width))), [0.1, 0.1, 0.4, 0.5]);
    }
}

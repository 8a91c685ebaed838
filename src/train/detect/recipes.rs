//! Recipes of detection by name: Cascade Mask R-CNN on COCO as in Table 10 of MAP (src/models/README.md, "Dense
//! recipes").

use super::settings::DetectSettings;
use crate::error::{Error, Result};
use crate::gpu::Precision;
use crate::models::dense::Detection;
use crate::train::dense_recipes::{DenseRecipe, RecipeModel};
use crate::train::settings::{RunSettings, ScheduleKind};

/// Names of all recipes, with a line about each.
pub const RECIPES: &[(&str, &str)] = &[
    ("deit_tiny_coco", "DeiT-Ti with Cascade Mask R-CNN at 1024 pixels, in windows of 14 × 14 patches"),
    ("vim_tiny_coco", "Vim-Ti"),
    ("map_tiny_coco", "HybridNet-Ti"),
];

/// The recipe `name`.
///
/// # Errors
/// An unknown name.
pub fn detect_recipe(name: &str) -> Result<DenseRecipe<Detection, DetectSettings>> {
    let (backbone, layer_decay, window) = match name {
        "deit_tiny_coco" => ("deit_tiny_patch16_1024", 0.7, 14),
        "vim_tiny_coco" => ("vim_tiny_patch16_1024", 0.837, 0),
        "map_tiny_coco" => ("map_tiny_patch16_1024", 0.837, 0),
        other => {
            let known: Vec<_> = RECIPES.iter().map(|row| row.0).collect();
            return Err(Error::argument("recipe", format!("`{other}`"), format!("one of {}", known.join(", "))));
        }
    };
    let run = RunSettings {
        batch_size: 4,
        accum_iter: 16,
        epochs: 100,
        lr: Some(1e-4),
        warmup_epochs: Some(WARMUP / STEPS),
        schedule: ScheduleKind::MultiStep,
        weight_decay: 0.1,
        betas: (0.9, 0.999),
        precision: Precision::Mixed,
        ..RunSettings::default()
    };
    Ok(DenseRecipe {
        model: RecipeModel { name: backbone, image_size: 1024, drop_path: 0.1, classes: 80 },
        heads: Detection { window, ..Detection::default() },
        settings: DetectSettings { run, layer_decay, ..DetectSettings::default() },
    })
}

/// Steps of the warm-up.
const WARMUP: f64 = 250.0;
/// Whole steps in an epoch of COCO's 117,266 images with objects.
const STEPS: f64 = 1832.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Config;
    use crate::train::supervised::SupervisedSettings;

    #[test]
    fn recipes_are_those_of_the_published_runs() {
        for (name, layers) in [("deit_tiny_coco", 0.7), ("vim_tiny_coco", 0.837), ("map_tiny_coco", 0.837)] {
            let DenseRecipe { model, heads, settings } = detect_recipe(name).unwrap();
            settings.check().unwrap_or_else(|e| panic!("{name}: {e}"));
            let run = &settings.run;
            assert_eq!((run.images_per_step(), run.epochs, run.peak_lr()), (64, 100, 1e-4), "{name}");
            assert_eq!((settings.layer_decay, run.weight_decay, settings.scale), (layers, 0.1, (0.1, 2.0)), "{name}");
            assert_eq!((heads.channels, heads.proposals, model.classes), (256, 1000, 80), "{name}");
            let config = Config::preset(model.name).unwrap();
            assert_eq!((config.image_size, model.image_size, model.drop_path), (1024, 1024, 0.1), "{name}");
            let schedule = run.schedule(1832).unwrap();
            assert!((schedule.lr(0) - 1e-7).abs() < 1e-18 && schedule.lr(249) < 1e-4, "{name}");
            let steps = [250, 162_843, 162_844, 176_415].map(|step| (schedule.lr(step) * 1e8).round() / 1e8);
            assert_eq!(steps, [1e-4, 1e-4, 1e-5, 1e-6], "{name}");
        }
        assert_eq!(RECIPES.len(), 3);
        let error = detect_recipe("map_small_ade20k").unwrap_err().to_string();
        assert!(error.contains("deit_tiny_coco, vim_tiny_coco, map_tiny_coco"), "{error}");
    }
}

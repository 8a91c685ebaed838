//! Recipes of segmentation by name: ADE20K as in Table 9 of MAP (src/models/README.md, "Dense recipes").

use super::settings::SegmentSettings;
use crate::error::{Error, Result};
use crate::models::dense::{PixelDecoder, Segmentation};
use crate::train::dense_recipes::{DenseRecipe, RecipeModel};
use crate::train::settings::{RunSettings, ScheduleKind};

/// Names of all recipes, with a line about each.
pub const RECIPES: &[(&str, &str)] = &[
    ("resnet50_ade20k", "ResNet-50 with UperNet at 512 pixels"),
    ("resnet101_ade20k", "ResNet-101"),
    ("deeplab_resnet101_ade20k", "ResNet-101 at stride 8 with DeepLab v3+"),
    ("deit_tiny_ade20k", "DeiT-Ti with UperNet at 512 pixels"),
    ("deit_small_ade20k", "DeiT-S"),
    ("vim_tiny_ade20k", "Vim-Ti"),
    ("vim_small_ade20k", "Vim-S"),
    ("map_tiny_ade20k", "HybridNet-Ti"),
    ("map_small_ade20k", "HybridNet-S, with heads as wide as Vim's"),
    ("map_small_paper_ade20k", "HybridNet-S, with heads of 512 channels: the size that the paper gives"),
];

/// The recipe `name`.
///
/// # Errors
/// An unknown name.
pub fn segment_recipe(name: &str) -> Result<DenseRecipe<Segmentation, SegmentSettings>> {
    let backbone = match name {
        "resnet50_ade20k" => "resnet50",
        "resnet101_ade20k" | "deeplab_resnet101_ade20k" => "resnet101",
        "deit_tiny_ade20k" => "deit_tiny_patch16_512",
        "deit_small_ade20k" => "deit_small_patch16_512",
        "vim_tiny_ade20k" => "vim_tiny_patch16_512",
        "vim_small_ade20k" => "vim_small_patch16_512",
        "map_tiny_ade20k" => "map_tiny_patch16_512",
        "map_small_ade20k" | "map_small_paper_ade20k" => "map_small_patch16_512",
        other => {
            let known: Vec<_> = RECIPES.iter().map(|row| row.0).collect();
            return Err(Error::argument("recipe", format!("`{other}`"), format!("one of {}", known.join(", "))));
        }
    };
    let wide = name == "map_small_paper_ade20k";
    let on_maps = backbone.starts_with("resnet");
    let decoder = if name.starts_with("deeplab") { PixelDecoder::DeepLab } else { PixelDecoder::UperNet };
    // Vim-T's script, or Vim-S's configuration: (rate, weight decay, layer decay). ResNets have the latter with one
    // rate everywhere; mmsegmentation trains them with SGD.
    let (lr, weight_decay, layer_decay) = match name {
        _ if on_maps => (1e-4, 0.05, 1.0),
        _ if name.contains("_tiny") => (2e-4, 0.1, 0.92),
        _ => (1e-4, 0.05, 0.95),
    };
    let batch_size = if wide || decoder == PixelDecoder::DeepLab { 8 } else { 16 };
    let run = RunSettings {
        batch_size,
        accum_iter: IMAGES / batch_size,
        epochs: 95,
        lr: Some(lr),
        warmup_epochs: Some(WARMUP / STEPS),
        schedule: ScheduleKind::Linear,
        weight_decay,
        betas: (0.9, 0.999),
        ..RunSettings::default()
    };
    Ok(DenseRecipe {
        model: RecipeModel {
            name: backbone,
            image_size: 512,
            drop_path: if on_maps { 0.0 } else { 0.1 },
            classes: 150,
        },
        heads: Segmentation { decoder, channels: if wide { 512 } else { 0 }, ..Segmentation::default() },
        settings: SegmentSettings { run, layer_decay, ..SegmentSettings::default() },
    })
}

/// Images of a step.
const IMAGES: usize = 32;
/// Steps of the warm-up.
const WARMUP: f64 = 1500.0;
/// Whole steps in an epoch of ADE20K's 20,210 images. 95 epochs are 59,945 of the 60,000 steps.
const STEPS: f64 = 631.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Config;
    use crate::train::supervised::SupervisedSettings;

    #[test]
    fn recipes_are_those_of_the_published_runs() {
        for (name, rate, decay, layers, channels) in [
            ("resnet50_ade20k", 1e-4, 0.05, 1.0, 0),
            ("resnet101_ade20k", 1e-4, 0.05, 1.0, 0),
            ("deeplab_resnet101_ade20k", 1e-4, 0.05, 1.0, 0),
            ("deit_tiny_ade20k", 2e-4, 0.1, 0.92, 0),
            ("deit_small_ade20k", 1e-4, 0.05, 0.95, 0),
            ("vim_tiny_ade20k", 2e-4, 0.1, 0.92, 0),
            ("vim_small_ade20k", 1e-4, 0.05, 0.95, 0),
            ("map_tiny_ade20k", 2e-4, 0.1, 0.92, 0),
            ("map_small_ade20k", 1e-4, 0.05, 0.95, 0),
            ("map_small_paper_ade20k", 1e-4, 0.05, 0.95, 512),
        ] {
            let DenseRecipe { model, heads, settings } = segment_recipe(name).unwrap();
            settings.check().unwrap_or_else(|e| panic!("{name}: {e}"));
            let run = &settings.run;
            assert_eq!((run.images_per_step(), run.peak_lr(), run.weight_decay), (32, rate, decay), "{name}");
            assert_eq!((settings.layer_decay, heads.channels, heads.auxiliary), (layers, channels, 256), "{name}");
            let config = Config::preset(model.name).unwrap();
            let on_maps = config.hierarchy.is_some();
            let (own, drop_path) = if on_maps { (224, 0.0) } else { (512, 0.1) };
            assert_eq!((config.image_size, model.image_size, model.drop_path), (own, 512, drop_path), "{name}");
            assert_eq!(heads.decoder == PixelDecoder::DeepLab, name.starts_with("deeplab"), "{name}");
            // the warm-up ends after 1500 steps
            let schedule = run.schedule(631).unwrap();
            assert!((schedule.lr(0) / rate - 1e-6).abs() < 1e-12, "{name}");
            let line = |step: f64| rate * (1.0 - step / 59_945.0);
            assert!((schedule.lr(1500) - line(1500.0)).abs() < 1e-15, "{name}");
            assert!(schedule.lr(1499) < line(1499.0), "{name}");
        }
        assert_eq!(RECIPES.len(), 10);
        let error = segment_recipe("vim_tiny").unwrap_err().to_string();
        assert!(error.contains("`vim_tiny`") && error.contains("vim_tiny_ade20k, vim_small_ade20k"), "{error}");
    }
}

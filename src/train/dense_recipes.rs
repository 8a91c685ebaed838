//! Rates and decays of the published recipes for dense tasks: Vim's segmentation (mmsegmentation) and detection
//! (detectron2), name by name as their code has them. And what a named recipe says about a network.

use crate::train::schedule::Schedule;

/// What a named recipe says about the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecipeModel {
    /// The backbone, unless a checkpoint or another model is named.
    pub name: &'static str,
    /// Side of what the network sees of an image, in pixels.
    pub image_size: usize,
    /// DropPath's rate at the last layer.
    pub drop_path: f64,
    /// Classes of the recipe's data set.
    pub classes: usize,
}

/// A recipe: the network, and how it is trained. `H` are its heads, `S` its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseRecipe<H, S> {
    /// The backbone and its images.
    pub model: RecipeModel,
    /// The heads.
    pub heads: H,
    /// The settings; the data set is left open.
    pub settings: S,
}

/// What a recipe does with one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParameterRule {
    /// Factor of the learning rate.
    pub rate: f64,
    /// Weight decay.
    pub decay: f64,
}

/// Vim's recipe for UperNet on ADE20K.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentationRecipe {
    /// Learning rate before warm-up and decay.
    pub rate: f64,
    /// Steps of the run.
    pub steps: u64,
    /// Steps of the warm-up.
    pub warmup: u64,
    /// The warm-up's first factor.
    pub warmup_ratio: f64,
    /// Weight decay.
    pub decay: f64,
    /// Factor of the rate from one layer to the one before.
    pub layer_decay: f64,
    /// Layers of the backbone.
    pub layers: u32,
}

impl SegmentationRecipe {
    /// Vim-S on 8 GPUs.
    pub const VIM_SMALL: Self = Self {
        rate: 1e-4,
        steps: 60_000,
        warmup: 1500,
        warmup_ratio: 1e-6,
        decay: 0.05,
        layer_decay: 0.95,
        layers: 24,
    };

    /// The learning rate of a step, from 0: a line to zero, times the warm-up, which multiplies the rate of the line.
    pub fn rate_at(&self, step: u64) -> f64 {
        let Self { rate: peak, warmup_ratio: first, warmup: warmup_steps, steps: total_steps, .. } = *self;
        Schedule::Linear { peak, min_lr: 0.0, first, warmup_steps, total_steps }.lr(step)
    }

    /// What becomes of a parameter of this name and number of axes. Embeddings have the lowest rate, and the attention
    /// blocks `backbone.blocks` rise to 1; all other layers have 1, because the code knows no other name. One axis or a
    /// bias is not decayed; the position table is, because the code compares its bare name with full ones.
    pub fn of(&self, name: &str, axes: usize) -> ParameterRule {
        let (last, place) = (self.layers + 1, by_block(self.layers, name));
        let decays = axes > 1 && !name.ends_with(".bias");
        ParameterRule { rate: power(self.layer_decay, last, place), decay: if decays { self.decay } else { 0.0 } }
    }
}

/// Vim's recipe for Cascade Mask R-CNN on COCO.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectionRecipe {
    /// Learning rate.
    pub rate: f64,
    /// Steps of the run.
    pub steps: u64,
    /// Steps from which on the rate is a tenth and a hundredth.
    pub marks: [u64; 2],
    /// Steps of the warm-up.
    pub warmup: u64,
    /// The warm-up's first factor.
    pub warmup_ratio: f64,
    /// Weight decay.
    pub decay: f64,
    /// Factor of the rate from one layer to the one before.
    pub layer_decay: f64,
    /// Layers of the backbone.
    pub layers: u32,
}

impl DetectionRecipe {
    /// Vim-T on 64 pictures a step.
    pub const VIM_TINY: Self = Self {
        rate: 1e-4,
        steps: 184_375,
        marks: [163_889, 177_546],
        warmup: 250,
        warmup_ratio: 0.001,
        decay: 0.1,
        layer_decay: 0.837,
        layers: 24,
    };

    /// The learning rate of a step, from 0.
    pub fn rate_at(&self, step: u64) -> f64 {
        let Self { rate: peak, warmup_ratio: first, warmup: warmup_steps, marks, .. } = *self;
        Schedule::MultiStep { peak, first, warmup_steps, marks }.lr(step)
    }

    /// What becomes of a parameter of this name. Embeddings have the lowest rate, the layers of the backbone rise, and
    /// all else has 1. Only the position table is not decayed: detectron2 exempts norms that it knows, and neither its
    /// own channel norm nor Mamba's RMS norm is among them.
    pub fn of(&self, name: &str) -> ParameterRule {
        let (last, place) = (self.layers + 1, by_layer(self.layers, name));
        let is_table = name.rsplit('.').next() == Some("pos_embed");
        ParameterRule { rate: power(self.layer_decay, last, place), decay: if is_table { 0.0 } else { self.decay } }
    }
}

/// The place of a parameter of a segmentation network of so many layers, from 0 to one more than those: embeddings are
/// first, the code finds attention blocks `backbone.blocks`, and all else is last.
pub fn by_block(layers: u32, name: &str) -> u32 {
    let of_block = || name.strip_prefix("backbone.blocks.")?.split('.').next()?.parse::<u32>().ok();
    let is_embedding = ["backbone.pos_embed", "backbone.patch_embed"].iter().any(|start| name.starts_with(start));
    if is_embedding { 0 } else { of_block().map_or(layers + 1, |block| block + 1) }
}

/// The same of a detector, in whose backbone the code finds Mamba layers `layers`.
pub fn by_layer(layers: u32, name: &str) -> u32 {
    let of_layer = || name.split_once(".layers.")?.1.split('.').next()?.parse::<u32>().ok();
    match name.starts_with("backbone") {
        true if name.contains(".pos_embed") || name.contains(".patch_embed") => 0,
        true => of_layer().map_or(layers + 1, |layer| layer + 1),
        false => layers + 1,
    }
}

/// Of place 0 to `last`, which has 1.
fn power(decay: f64, last: u32, place: u32) -> f64 {
    decay.powi(last.saturating_sub(place) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let seg = SegmentationRecipe::VIM_SMALL;
        assert!((seg.rate_at(0) - 1e-10).abs() < 1e-16);
        assert_eq!(seg.rate_at(1500), 9.75e-5);
        let det = DetectionRecipe::VIM_TINY;
        assert_eq!([250, 163_888].map(|step| det.rate_at(step)), [1e-4, 1e-4]);
        assert!((det.rate_at(0) - 1e-7).abs() < 1e-18);
        assert!((det.rate_at(177_546) - 1e-6).abs() < 1e-18);
    }

    #[test]
    fn names() {
        let seg = SegmentationRecipe::VIM_SMALL;
        let rule = seg.of("backbone.pos_embed", 3);
        assert!((rule.rate - 0.95f64.powi(25)).abs() < 1e-12 && rule.decay == 0.05);
        let rule = seg.of("backbone.blocks.7.norm1.weight", 1);
        assert!((rule.rate - 0.95f64.powi(17)).abs() < 1e-12 && rule.decay == 0.0);
        assert_eq!(seg.of("backbone.layers.0.mixer.A_log", 2), ParameterRule { rate: 1.0, decay: 0.05 });
        let det = DetectionRecipe::VIM_TINY;
        let rule = det.of("backbone.net.pos_embed");
        assert!((rule.rate - 0.837f64.powi(25)).abs() < 1e-12 && rule.decay == 0.0);
        assert_eq!(det.of("backbone.net.layers.23.norm.weight"), ParameterRule { rate: 0.837, decay: 0.1 });
        assert_eq!(det.of("backbone.simfp_4.0.norm.bias").rate, 1.0);
    }
}

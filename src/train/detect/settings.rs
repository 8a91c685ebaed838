//! Settings of a detection run: everything that decides its result.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::ObjectView;
use crate::error::Result;
use crate::models::Config;
use crate::models::dense::{Detection, is_micro};
use crate::train::finetune::settings::KeepAverage;
use crate::train::options::{Pair, args, group};
use crate::train::settings::{RunArgs, RunSettings};
use crate::train::supervised::{SupervisedSettings, Tuning};

/// Settings of a detection run, stored in `state.json`. A resumed run needs the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectSettings {
    /// Settings that every run has.
    #[serde(flatten)]
    pub run: RunSettings,
    /// Pretrained checkpoint that the backbone comes from; `None` starts from initial values.
    pub checkpoint: Option<PathBuf>,
    /// The longer side of an image over that of the view, lowest and highest: large-scale jitter.
    pub scale: (f64, f64),
    /// Probability of a mirror image.
    pub hflip: f64,
    /// Factor on the learning rate from each layer of the backbone to the one before it.
    pub layer_decay: f64,
    /// Whether it reaches only the layers that the official code finds (src/models/README.md, D-24).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub layer_decay_parity: bool,
    /// Momentum of the moving average of the weights; `None` keeps no average.
    pub model_ema: Option<f64>,
}

impl Default for DetectSettings {
    /// The published recipe, for a short run.
    fn default() -> Self {
        let run = RunSettings {
            batch_size: 8,
            lr: Some(1e-3),
            betas: (0.9, 0.999),
            weight_decay: 0.1,
            ..RunSettings::default()
        };
        Self {
            run,
            checkpoint: None,
            scale: (0.1, 2.0),
            hflip: 0.5,
            layer_decay: 1.0,
            layer_decay_parity: false,
            model_ema: None,
        }
    }
}

impl DetectSettings {
    /// The published recipe, or on a backbone of this width for small pictures one whose jitter leaves objects as large
    /// as the smallest anchors.
    pub fn of_width(width: usize) -> Self {
        let scale = if is_micro(width) { (0.8, 1.3) } else { Self::default().scale };
        Self { scale, ..Self::default() }
    }
}

args! {
    /// Arguments of what only detection has.
    pub struct DetectOnlyArgs for DetectSettings {
        /// Checkpoint folder of a pretrained model to start from; without it --model starts from initial values.
        checkpoint: PathBuf; arg(value_name = "FOLDER"),
        /// The longer side of an image over that of the view: lowest,highest.
        scale: Pair; arg(value_name = "LOW,HIGH"),
        /// Probability of a mirror image.
        hflip: f64,
        /// Factor on the learning rate from each layer of the backbone to the one before; 1 for one rate everywhere.
        layer_decay: f64,
        /// Lower the rates of those layers only that the official code finds by their names: Mamba layers, and the
        /// blocks of a ViT.
        layer_decay_parity: bool;
            arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL"),
        /// Momentum of the moving average of the weights.
        model_ema_decay => model_ema: f64,
        /// Keep a moving average of the weights, and test it too.
        model_ema: KeepAverage;
            arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL"),
    }
}

group! {
    /// What one layer says about [`DetectSettings`].
    pub struct DetectArgs for DetectSettings {
        /// Data, batches, learning rates, optimizer.
        run => run: RunArgs,
        /// What only detection has.
        only => self: DetectOnlyArgs,
    }
}

args! {
    /// What one layer says about the heads of a detector.
    pub struct DetectorArgs for Detection {
        /// Channels of the pyramid and of the convolutions of all heads.
        head_channels => channels: usize,
        /// 3×3 convolutions of a box head and of the mask head.
        head_convs => convs: usize,
        /// Features of a box head.
        head_features => features: usize,
        /// Whether the masks of objects are learned.
        masks: bool; arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL"),
        /// Side in pixels of the boxes that are pooled from the stride of the patches on.
        canonical_size: f64,
        /// Anchors of an image that region proposals learn from.
        sampled_anchors => anchors: usize,
        /// Boxes of an image that the heads learn from.
        sampled_boxes => boxes: usize,
        /// Objects of an image whose masks are learned; at least a quarter of the boxes.
        sampled_objects => objects: usize,
        /// Objects of an image that are learned at all; the largest are kept.
        max_truths => truths: usize,
        /// Proposals of an image.
        proposals: usize,
        /// Side in patches of the windows within which the backbone's transformer blocks attend, all but four of them:
        /// 14 in ViTDet; 0 for none.
        window: usize,
    }
}

impl AsRef<RunSettings> for DetectSettings {
    fn as_ref(&self) -> &RunSettings {
        &self.run
    }
}

impl AsMut<RunSettings> for DetectSettings {
    fn as_mut(&mut self) -> &mut RunSettings {
        &mut self.run
    }
}

impl DetectSettings {
    /// What training sees of an image, for this network and its heads.
    pub fn view(&self, config: &Config, heads: &Detection) -> ObjectView {
        ObjectView {
            size: config.image_size as u32,
            patch: config.detection_cell() as u32,
            scale: self.scale,
            hflip: self.hflip,
            truths: heads.truths,
            anchors: heads.anchors,
        }
    }
}

impl SupervisedSettings for DetectSettings {
    fn checkpoint(&self) -> Option<&Path> {
        self.checkpoint.as_deref()
    }

    fn starting_from(self, checkpoint: Option<PathBuf>) -> Self {
        Self { checkpoint, ..self }
    }

    fn tuning(&self) -> Tuning {
        Tuning { layer_decay: self.layer_decay, average: self.model_ema, by_name: self.layer_decay_parity }
    }

    fn check(&self) -> Result<()> {
        self.tuning().check()?;
        self.run.check()
    }
}

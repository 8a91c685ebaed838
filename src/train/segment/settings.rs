//! Settings of a segmentation run: everything that decides its result.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{PixelLabels, SceneView};
use crate::error::{Error, Result};
use crate::models::dense::{PixelDecoder, Segmentation, is_micro};
use crate::train::finetune::settings::KeepAverage;
#[cfg(feature = "cli")]
use crate::train::options::word;
use crate::train::options::{Pair, args, group};
use crate::train::settings::{RunArgs, RunSettings};
use crate::train::supervised::{SupervisedSettings, Tuning};

/// Settings of a segmentation run, stored in `state.json`. A resumed run needs the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentSettings {
    /// Settings that every run has.
    #[serde(flatten)]
    pub run: RunSettings,
    /// Pretrained checkpoint that the backbone comes from; `None` starts from initial values.
    pub checkpoint: Option<PathBuf>,
    /// The shorter side of an image over that of the crop, lowest and highest.
    pub scale: (f64, f64),
    /// Probability of a mirror image.
    pub hflip: f64,
    /// Whether brightness, contrast, saturation and hue change.
    pub photometric: bool,
    /// Factor on the learning rate from each layer of the backbone to the one before it.
    pub layer_decay: f64,
    /// Whether it reaches only the layers that the official code finds (src/models/README.md, D-24).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub layer_decay_parity: bool,
    /// Momentum of the moving average of the weights; `None` keeps no average.
    pub model_ema: Option<f64>,
    /// What the values of annotations mean, where the data set does not say it.
    #[serde(default, skip_serializing_if = "PixelLabels::is_default")]
    pub labels: PixelLabels,
}

impl Default for SegmentSettings {
    /// The published recipe, for a short run.
    fn default() -> Self {
        let SceneView { scale, hflip, photometric, .. } = SceneView::new(1);
        let run = RunSettings { batch_size: 16, lr: Some(1e-3), betas: (0.9, 0.999), ..RunSettings::default() };
        Self {
            run,
            checkpoint: None,
            scale,
            hflip,
            photometric,
            layer_decay: 1.0,
            layer_decay_parity: false,
            model_ema: None,
            labels: PixelLabels::default(),
        }
    }
}

impl SegmentSettings {
    /// The published recipe, or on a backbone of this width for small pictures one whose crops are not mostly padding.
    pub fn of_width(width: usize) -> Self {
        let scale = if is_micro(width) { (0.8, 1.5) } else { Self::default().scale };
        Self { scale, ..Self::default() }
    }
}

args! {
    /// Arguments of what only segmentation has.
    pub struct SegmentOnlyArgs for SegmentSettings {
        /// Checkpoint folder of a pretrained model to start from; without it --model starts from initial values.
        checkpoint: PathBuf; arg(value_name = "FOLDER"),
        /// The shorter side of an image over that of the crop: lowest,highest.
        scale: Pair; arg(value_name = "LOW,HIGH"),
        /// Probability of a mirror image.
        hflip: f64,
        /// Change brightness, contrast, saturation and hue.
        photometric: bool;
            arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL"),
        /// Factor on the learning rate from each layer of the backbone to the one before; 1 for one rate everywhere.
        layer_decay: f64,
        /// Lower the rates of those layers only that the official code finds by their names: transformer blocks.
        layer_decay_parity: bool;
            arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL"),
        /// Momentum of the moving average of the weights.
        model_ema_decay => model_ema: f64,
        /// Keep a moving average of the weights, and test it too.
        model_ema: KeepAverage;
            arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL"),
    }
}

args! {
    /// Arguments of what the values of annotations mean.
    pub struct LabelArgs for PixelLabels {
        /// Classes of a data set that does not name them; their values begin with 0.
        num_classes: usize; arg(value_name = "N"),
        /// The value 0 is no class, and class k has the value k + 1, as in ADE20K.
        reduce_zero_label: bool;
            arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL"),
        /// Text or JSON file with the color of each class, where annotations are pictures: lines of `128 64 128 road`.
        color_table: PathBuf; arg(value_name = "FILE"),
    }
}

group! {
    /// What one layer says about [`SegmentSettings`].
    pub struct SegmentArgs for SegmentSettings {
        /// Data, batches, learning rates, optimizer.
        run => run: RunArgs,
        /// What only segmentation has.
        only => self: SegmentOnlyArgs,
        /// What the values of annotations mean.
        labels => labels: LabelArgs,
    }
}

args! {
    /// What one layer says about the heads.
    pub struct HeadArgs for Segmentation {
        /// What scores pixels: upernet, or on a ResNet deeplab (DeepLab v3+).
        head => decoder: PixelDecoder; arg(value_parser = word::<PixelDecoder>()),
        /// Channels of the head; 0 for the width of the backbone, or for 512 on a ResNet.
        head_channels => channels: usize,
        /// Channels of the auxiliary head; 0 for none.
        auxiliary_channels => auxiliary: usize,
        /// Weight of the auxiliary head's loss.
        auxiliary_weight: f64,
        /// Share of the channels that training drops in front of the classifiers.
        channel_dropout => dropout: f64,
        /// Mean of losses over labeled pixels instead of all.
        avg_non_ignore => labeled_mean: bool;
            arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL"),
    }
}

impl AsRef<RunSettings> for SegmentSettings {
    fn as_ref(&self) -> &RunSettings {
        &self.run
    }
}

impl AsMut<RunSettings> for SegmentSettings {
    fn as_mut(&mut self) -> &mut RunSettings {
        &mut self.run
    }
}

impl SegmentSettings {
    /// What training sees of an image, in crops of this side.
    pub fn view(&self, size: u32) -> SceneView {
        SceneView { size, scale: self.scale, hflip: self.hflip, photometric: self.photometric }
    }
}

impl SupervisedSettings for SegmentSettings {
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
        if self.run.batch_size < 2 {
            let expected = "at least 2: a pooled map of one cell has no variance in a batch of one";
            return Err(Error::argument("batch_size", self.run.batch_size, expected));
        }
        self.run.check()
    }
}

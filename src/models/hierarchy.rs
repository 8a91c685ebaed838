//! What a backbone on maps is made of: `Config::hierarchy`. Its stages halve the map and widen it, where a token
//! backbone has one width and one sequence.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::BatchNormConfig;

/// Stride of the last map where every stage but the first halves its map.
const PLAIN: usize = 32;

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_plain(stride: &usize) -> bool {
    *stride == PLAIN
}

/// Sizes of a backbone on maps. Each family reads the fields that it documents, and leaves the others at their
/// defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hierarchy {
    /// Channels of the stem: MambaVision's `in_dim`, timm's `stem_width` or `stem_size`.
    pub stem: usize,
    /// The stages, the finest map first.
    pub stages: Vec<Stage>,
    /// Initial value of the factors γ of each residual branch's channels, or none for networks without γ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<f64>,
    /// The same for the convolutional blocks of MambaVision, which have factors of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_scale_conv: Option<f64>,
    /// Epsilon of batch norms.
    pub batch_norm_eps: f64,
    /// Share of a batch in the running statistics of batch norms: PyTorch's `momentum`.
    pub batch_norm_momentum: f64,
    /// Whether convolutions pad as TensorFlow's "same" does: one row more below than above where the sum is odd.
    pub same_padding: bool,
    /// Stride of the last map. Below 32, stages that would halve the map keep it, and their 3×3 convolutions have a
    /// dilation instead: timm's `output_stride`.
    #[serde(skip_serializing_if = "is_plain")]
    pub output_stride: usize,
    /// Inner width of a 2-D scan over the width of its map: VMamba's `ssm_ratio`.
    pub ssm_ratio: f64,
}

impl Default for Hierarchy {
    /// No stages, and PyTorch's defaults.
    fn default() -> Self {
        Self {
            stem: 64,
            stages: Vec::new(),
            layer_scale: None,
            layer_scale_conv: None,
            batch_norm_eps: 1e-5,
            batch_norm_momentum: 0.1,
            same_padding: false,
            output_stride: PLAIN,
            ssm_ratio: 2.0,
        }
    }
}

/// A stage: blocks on maps of one size and width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stage {
    /// Number of blocks.
    pub depth: usize,
    /// Channels of the map that leaves the stage.
    pub width: usize,
    /// Attention heads of its blocks.
    pub heads: usize,
    /// Side of the windows in which its blocks mix, in cells.
    pub window: usize,
    /// Side of the kernel of its depthwise convolutions.
    pub kernel: usize,
    /// Stride of its first block.
    pub stride: usize,
    /// Inner width of a block over the width of its input. 1 is a block without an expansion.
    pub expansion: usize,
}

impl Default for Stage {
    /// No blocks.
    fn default() -> Self {
        Self { depth: 0, width: 0, heads: 1, window: 1, kernel: 3, stride: 1, expansion: 1 }
    }
}

impl Stage {
    /// Stages of these depths and widths, and defaults for the rest.
    pub fn list(depths: &[usize], widths: &[usize]) -> Vec<Self> {
        depths.iter().zip(widths).map(|(&depth, &width)| Self { depth, width, ..Self::default() }).collect()
    }
}

impl Hierarchy {
    /// Settings of batch norms.
    pub fn batch_norm(&self) -> BatchNormConfig {
        BatchNormConfig { eps: self.batch_norm_eps as f32, momentum: self.batch_norm_momentum }
    }

    /// Blocks of all stages.
    pub fn depth(&self) -> usize {
        self.stages.iter().map(|stage| stage.depth).sum()
    }

    /// Whether the last map has a smaller stride than 32.
    pub fn is_dilated(&self) -> bool {
        self.output_stride != PLAIN
    }

    /// (stage, block in the stage) of every block, in the order in which they run.
    pub fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        self.stages.iter().enumerate().flat_map(|(i, stage)| (0..stage.depth).map(move |j| (i, j)))
    }

    /// (channels that the stage gets, the stage) of every stage. The first gets `first` channels.
    pub fn widths(&self, first: usize) -> impl Iterator<Item = (usize, &Stage)> {
        let before = std::iter::once(first).chain(self.stages.iter().map(|stage| stage.width));
        before.zip(&self.stages)
    }

    /// The number of block `block` of stage `stage` among all blocks.
    pub fn block_number(&self, stage: usize, block: usize) -> Option<usize> {
        let before: usize = self.stages.get(..stage)?.iter().map(|stage| stage.depth).sum();
        (block < self.stages.get(stage)?.depth).then_some(before + block)
    }

    /// Bounds that are generous, and small enough that no product of the numbers overflows.
    pub(super) fn validate(&self) -> Result<()> {
        let check = |ok: bool, what: String, got: String, expected: &str| match ok {
            true => Ok(()),
            false => Err(Error::argument(format!("hierarchy.{what}"), got, expected)),
        };
        let within = |what: String, got: usize, low: usize, high: usize| {
            check((low..=high).contains(&got), what, got.to_string(), &format!("{low} to {high}"))
        };
        within("stages".into(), self.stages.len(), 1, 16)?;
        within("stem".into(), self.stem, 1, 8192)?;
        for (i, stage) in self.stages.iter().enumerate() {
            let of = |what: &str| format!("stages[{i}].{what}");
            within(of("depth"), stage.depth, 1, 256)?;
            within(of("width"), stage.width, 1, 8192)?;
            within(of("heads"), stage.heads, 1, 1024)?;
            within(of("window"), stage.window, 1, 1024)?;
            within(of("kernel"), stage.kernel, 1, 15)?;
            within(of("stride"), stage.stride, 1, 4)?;
            within(of("expansion"), stage.expansion, 1, 16)?;
        }
        check(
            [8, 16, PLAIN].contains(&self.output_stride),
            "output_stride".into(),
            self.output_stride.to_string(),
            "8, 16 or 32",
        )?;
        let unit =
            |what: &str, got: f64| check(got > 0.0 && got < 1.0, what.into(), got.to_string(), "between 0 and 1");
        unit("batch_norm_eps", self.batch_norm_eps)?;
        unit("batch_norm_momentum", self.batch_norm_momentum)?;
        for (what, gamma) in [("layer_scale", self.layer_scale), ("layer_scale_conv", self.layer_scale_conv)] {
            let gamma = gamma.unwrap_or(1.0);
            check(gamma.is_finite(), what.into(), gamma.to_string(), "a finite number")?;
        }
        let ratio = self.ssm_ratio;
        check(ratio > 0.0 && ratio <= 16.0, "ssm_ratio".into(), ratio.to_string(), "above 0, at most 16")
    }
}

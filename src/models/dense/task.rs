//! What a network for a dense task is made of besides its backbone: `Config::dense`.

use serde::{Deserialize, Serialize};

use super::boxes::{Anchors, BoxSampler, ProposalOptions};
use super::cascade::CascadeConfig;
use super::deeplab::DeepLabConfig;
use super::mask_head::MaskHeadConfig;
use super::upernet::{FeatureMaps, UperNetConfig};
use crate::error::{Error, Result};
use crate::ops::pixel_loss::PixelMean;
use crate::ops::roi_align::RoiAlignOptions;

/// Channels of a backbone, up to which heads are small ones for a CPU.
const MICRO: usize = 64;

/// Whether a backbone of this width is one for a CPU and small pictures.
pub fn is_micro(width: usize) -> bool {
    width <= MICRO
}

/// A dense task, and the sizes of its heads. A network for one has no prefix tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dense {
    /// Classes of pixels.
    Segmentation(Segmentation),
    /// Boxes and masks of objects.
    Detection(Detection),
}

/// What scores pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelDecoder {
    /// UperNet.
    #[default]
    UperNet,
    /// DeepLab v3+, on a backbone on maps whose last ones it keeps at stride 8.
    DeepLab,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_upernet(decoder: &PixelDecoder) -> bool {
    *decoder == PixelDecoder::UperNet
}

/// The heads of segmentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Segmentation {
    /// What scores pixels.
    #[serde(skip_serializing_if = "is_upernet")]
    pub decoder: PixelDecoder,
    /// Channels of the head; 0 for the width of the backbone, or for 512 on a backbone on maps.
    pub channels: usize,
    /// Channels of the auxiliary head; 0 for none.
    pub auxiliary: usize,
    /// Weight of the auxiliary head's loss.
    pub auxiliary_weight: f64,
    /// Share of the channels that training drops in front of both classifiers.
    pub dropout: f64,
    /// Whether losses are means over labeled pixels instead of all: mmsegmentation's `avg_non_ignore`.
    pub labeled_mean: bool,
}

impl Default for Segmentation {
    /// Vim's.
    fn default() -> Self {
        let decoder = PixelDecoder::UperNet;
        Self { decoder, channels: 0, auxiliary: 256, auxiliary_weight: 0.4, dropout: 0.1, labeled_mean: false }
    }
}

impl Segmentation {
    /// Vim's, or narrow heads on a backbone of up to 64 channels: at strides of 2 they take more time than all else.
    pub fn of_width(width: usize) -> Self {
        let micro = Self { channels: 32, auxiliary: 32, ..Self::default() };
        if is_micro(width) { micro } else { Self::default() }
    }

    /// Channels of the head on these maps.
    pub fn head_channels(&self, features: FeatureMaps) -> usize {
        if self.channels == 0 { features.channels() } else { self.channels }
    }

    /// Channels of the auxiliary head, if there is one.
    pub fn auxiliary_channels(&self) -> Option<usize> {
        (self.auxiliary > 0).then_some(self.auxiliary)
    }

    fn mean(&self) -> PixelMean {
        if self.labeled_mean { PixelMean::Labeled } else { PixelMean::All }
    }

    /// UperNet on these maps.
    pub fn upernet(&self, features: FeatureMaps, classes: usize) -> UperNetConfig {
        UperNetConfig {
            channels: self.head_channels(features),
            auxiliary: self.auxiliary_channels(),
            auxiliary_weight: self.auxiliary_weight,
            mean: self.mean(),
            ..UperNetConfig::new(features, classes)
        }
    }

    /// DeepLab v3+ on four maps of these channels.
    pub fn deeplab(&self, widths: [usize; 4], classes: usize) -> DeepLabConfig {
        DeepLabConfig {
            channels: self.head_channels(FeatureMaps::Pyramid(widths)),
            auxiliary: self.auxiliary_channels(),
            auxiliary_weight: self.auxiliary_weight,
            mean: self.mean(),
            ..DeepLabConfig::new(widths, classes)
        }
    }
}

/// Sizes of Cascade Mask R-CNN, and the fixed capacities of its programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Detection {
    /// Channels of the pyramid and of the convolutions of all heads.
    pub channels: usize,
    /// 3×3 convolutions of a box head and of the mask head.
    pub convs: usize,
    /// Features of a box head.
    pub features: usize,
    /// Whether objects have masks.
    pub masks: bool,
    /// Side of the boxes that are pooled from stride 16 on, in pixels: 224 for pictures of 1024.
    pub canonical_size: f64,
    /// Anchors of a picture that region proposals learn from.
    pub anchors: usize,
    /// Boxes of a picture that the heads learn from.
    pub boxes: usize,
    /// Objects of a picture whose masks are learned.
    pub objects: usize,
    /// Truths of a picture; the largest are kept.
    pub truths: usize,
    /// Candidates of a level in training and in tests.
    pub candidates: [usize; 2],
    /// Proposals of a picture.
    pub proposals: usize,
    /// Side, in patches, of the windows within which the transformer blocks of a backbone on tokens attend, except for
    /// the last block of each quarter; 0 for none.
    #[serde(skip_serializing_if = "is_zero")]
    pub window: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Default for Detection {
    /// ViTDet's.
    fn default() -> Self {
        Self {
            channels: 256,
            convs: 4,
            features: 1024,
            masks: true,
            canonical_size: 224.0,
            anchors: 256,
            boxes: 512,
            objects: 128,
            truths: 128,
            candidates: [2000, 1000],
            proposals: 1000,
            window: 0,
        }
    }
}

impl Detection {
    /// Sizes with which a CPU trains in minutes, for the networks that are ours: pictures of 64 to 128 pixels.
    pub fn micro() -> Self {
        Self {
            channels: 32,
            convs: 1,
            features: 128,
            canonical_size: 112.0,
            anchors: 64,
            boxes: 32,
            objects: 8,
            truths: 16,
            candidates: [200, 100],
            proposals: 100,
            ..Self::default()
        }
    }

    /// ViTDet's, or [`Detection::micro`] on a backbone of up to 64 channels.
    pub fn of_width(width: usize) -> Self {
        if is_micro(width) { Self::micro() } else { Self::default() }
    }

    /// Levels from which boxes are pooled: all but the last.
    pub const POOLED: usize = 4;

    /// Strides of the pyramid on patches of this side. Patches of 16 pixels give 4 to 64.
    pub fn strides(patch: usize) -> [f64; 5] {
        [0.25, 0.5, 1.0, 2.0, 4.0].map(|factor| factor * patch as f64)
    }

    /// Rows and columns of the maps of the pyramid on a grid of patches.
    pub fn maps([rows, cols]: [usize; 2]) -> [[usize; 2]; 5] {
        let of = |side: usize| [4 * side, 2 * side, side, side / 2, (side / 2).div_ceil(2)];
        let (rows, cols) = (of(rows), of(cols));
        std::array::from_fn(|level| [rows[level], cols[level]])
    }

    /// The anchors of all levels on patches of this side.
    pub fn anchors(&self, patch: usize) -> Anchors {
        Anchors::vitdet(&Self::strides(patch))
    }

    /// The sample of anchors.
    pub fn anchor_sampler(&self) -> BoxSampler {
        BoxSampler { count: self.anchors, fraction: 0.5 }
    }

    /// The sample of boxes.
    pub fn box_sampler(&self) -> BoxSampler {
        BoxSampler { count: self.boxes, fraction: 0.25 }
    }

    /// How proposals are chosen.
    pub fn proposals(&self, training: bool) -> ProposalOptions {
        let before = self.candidates[usize::from(!training)];
        ProposalOptions { before, after: self.proposals, overlap: 0.7, least_side: 0.0 }
    }

    /// The box heads for `classes` of objects, on patches of this side.
    pub fn cascade(&self, classes: usize, patch: usize) -> CascadeConfig {
        let vitdet = CascadeConfig::vitdet(classes);
        CascadeConfig {
            channels: self.channels,
            width: self.channels,
            convs: self.convs,
            features: self.features,
            strides: Self::strides(patch)[..Self::POOLED].to_vec(),
            pool: RoiAlignOptions { canonical_size: self.canonical_size, ..vitdet.pool },
            ..vitdet
        }
    }

    /// The mask head, if objects have masks.
    pub fn mask_head(&self, classes: usize, patch: usize) -> Option<MaskHeadConfig> {
        let vitdet = MaskHeadConfig::vitdet(classes);
        self.masks.then_some(MaskHeadConfig {
            channels: self.channels,
            width: self.channels,
            convs: self.convs,
            strides: Self::strides(patch)[..Self::POOLED].to_vec(),
            pool: RoiAlignOptions { canonical_size: self.canonical_size, ..vitdet.pool },
            ..vitdet
        })
    }
}

impl Dense {
    /// Stride of the last maps that it asks of a backbone on maps.
    pub fn output_stride(&self) -> usize {
        match self {
            Self::Segmentation(Segmentation { decoder: PixelDecoder::DeepLab, .. }) => 8,
            _ => 32,
        }
    }

    /// Side in patches of the windows within which a backbone attends; 0 for none.
    pub fn window(&self) -> usize {
        match self {
            Self::Segmentation(_) => 0,
            Self::Detection(detection) => detection.window,
        }
    }

    /// Whether it reads depths of a backbone on tokens.
    pub fn reads_tokens(&self) -> bool {
        !matches!(self, Self::Segmentation(Segmentation { decoder: PixelDecoder::DeepLab, .. }))
    }

    /// The ranges of all numbers, for a backbone of this width and grid.
    pub(crate) fn validate(&self, width: usize, grid: [usize; 2]) -> Result<()> {
        let within = |what: &str, got: usize, low: usize, high: usize| match (low..=high).contains(&got) {
            true => Ok(()),
            false => Err(Error::argument(format!("dense.{what}"), got, format!("{low} to {high}"))),
        };
        within("grid", grid[0].min(grid[1]), 2, 4096)?; // the coarsest map has half its side
        match self {
            Self::Segmentation(Segmentation { channels, auxiliary, auxiliary_weight, dropout, .. }) => {
                within("channels", *channels, 0, 8192)?;
                within("auxiliary", *auxiliary, 0, 8192)?;
                if !(0.0..=100.0).contains(auxiliary_weight) || !(0.0..1.0).contains(dropout) {
                    let got = format!("{auxiliary_weight} and {dropout}");
                    let expected = "0 to 100 and 0 to below 1";
                    return Err(Error::argument("dense.auxiliary_weight and dense.dropout", got, expected));
                }
                Ok(())
            }
            Self::Detection(d) => {
                if !width.is_multiple_of(4) {
                    return Err(Error::argument("width of a detector's backbone", width, "a multiple of 4"));
                }
                within("channels", d.channels, 1, 8192)?;
                within("convs", d.convs, 0, 16)?;
                within("features", d.features, 1, 65_536)?;
                for (what, count) in [("anchors", d.anchors), ("boxes", d.boxes), ("objects", d.objects)] {
                    within(what, count, 1, 65_536)?;
                }
                let sampled = (d.boxes as f64 * d.box_sampler().fraction) as usize;
                within("objects", d.objects, sampled, 65_536)?; // none of those that are sampled is lost
                within("truths", d.truths, 1, 4096)?;
                within("proposals", d.proposals, 1, 65_536)?;
                within("window", d.window, 0, 4096)?;
                d.candidates.iter().try_for_each(|count| within("candidates", *count, 1, 65_536))?;
                if d.canonical_size > 0.0 && d.canonical_size <= 65_536.0 {
                    return Ok(());
                }
                Err(Error::argument("dense.canonical_size", d.canonical_size, "above 0, at most 65536"))
            }
        }
    }
}

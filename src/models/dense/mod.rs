//! Dense tasks: classes of pixels, boxes and masks of objects.
//!
//! A head reads maps (B, H, W, C), whatever made them. Segmentation: [`UperNet`] and [`DeepLab`]. Detection:
//! [`SimpleFeaturePyramid`] on tokens or [`FeaturePyramid`] on maps, then [`RegionProposals`], [`CascadeHeads`] and
//! [`MaskHead`]. What runs on the host between two programs is in [`boxes`] and [`nms`].
//! [`Segmenter`](crate::models::Segmenter) and [`Detector`](crate::models::Detector) put them on a backbone.

pub mod boxes;
mod cascade;
mod deeplab;
mod feature_pyramid;
mod mask_head;
pub mod nms;
mod pixel_head;
mod region_proposals;
mod rows;
mod simple_pyramid;
mod task;
mod upernet;

pub use cascade::{CascadeConfig, CascadeHeads, CascadeStage, StageScores};
pub use deeplab::{DeepLab, DeepLabConfig};
pub use feature_pyramid::FeaturePyramid;
pub use mask_head::{MaskHead, MaskHeadConfig};
pub use pixel_head::{PixelScores, SegmentationLosses};
pub use region_proposals::{LevelProposals, RegionProposals, RegionTargets};
pub use rows::{BoxRows, MaskTargets, PictureBoxes};
pub use simple_pyramid::SimpleFeaturePyramid;
pub use task::{Dense, Detection, PixelDecoder, Segmentation, is_micro};
pub use upernet::{FeatureMaps, UperNet, UperNetConfig};

//! Dense tasks: classes of pixels, boxes and masks of objects.
//!
//! A head reads maps (B, H, W, C), whatever made them. Segmentation: [`UperNet`]. Detection: [`FeaturePyramid`], then
//! [`RegionProposals`], [`CascadeHeads`] and [`MaskHead`]. What runs on the host between two programs is in [`boxes`]
//! and [`nms`]. [`Segmenter`](crate::models::Segmenter) and [`Detector`](crate::models::Detector) put them
//! on any backbone on tokens.

pub mod boxes;
mod cascade;
mod mask_head;
pub mod nms;
mod pyramid;
mod region_proposals;
mod rows;
mod task;
mod upernet;

pub use cascade::{CascadeConfig, CascadeHeads, CascadeStage, StageScores};
pub use mask_head::{MaskHead, MaskHeadConfig};
pub use pyramid::FeaturePyramid;
pub use region_proposals::{LevelProposals, RegionProposals, RegionTargets};
pub use rows::{BoxRows, MaskTargets, PictureBoxes};
pub use task::{Dense, Detection, Segmentation, is_micro};
pub use upernet::{PixelScores, SegmentationLosses, UperNet, UperNetConfig};

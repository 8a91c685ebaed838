//! A segmentation network: a backbone of one stride and UperNet.

use super::backbones::encoder::Purpose;
use super::backbones::{Backbone, backbone};
use super::config::Config;
use super::dense::{Dense, PixelScores, SegmentationLosses, UperNet};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::nn::Params;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Any backbone on tokens, and UperNet on four of its depths.
#[derive(Debug, Clone)]
pub struct Segmenter {
    /// The encoder.
    pub backbone: Backbone,
    head: UperNet,
}

impl Segmenter {
    /// Parameters `backbone`, `decode_head` and `auxiliary_head`, as in mmsegmentation.
    ///
    /// # Errors
    /// A configuration without [`Config::dense`] for segmentation, or one that does not pass [`Config::validate`].
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let Some(Dense::Segmentation(segmentation)) = &config.dense else {
            return Err(Error::argument("dense", format!("{:?}", config.dense), "segmentation"));
        };
        let backbone = params.scope("backbone", |p| backbone(g, p, config, Purpose::Pretraining))?;
        Ok(Self { backbone, head: UperNet::new(params, &segmentation.head(config.width, config.classes))? })
    }

    /// All patches (B, L, P·P·3) in raster order → scores (B, 4h, 4w, K) of the cells of a fourth of a patch's side.
    /// `drop_path` has DropPath's factors, and `dropped` those of the dropout of channels.
    pub fn forward(
        &self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>, dropped: [Option<&Tensor>; 2],
    ) -> Result<PixelScores> {
        let depths = self.backbone.depths(r, patches, drop_path, 4)?;
        let [a, b, c, d] = &depths[..] else {
            return Err(Error::Internal(format!("{} depths of 4", depths.len())));
        };
        self.head.forward(r, [a, b, c, d], dropped)
    }

    /// The losses against labels (B, H, W) of u32; those not below K are ignored.
    pub fn losses(&self, r: &mut Recorder, scores: &PixelScores, labels: &Tensor) -> Result<SegmentationLosses> {
        self.head.losses(r, scores, labels)
    }
}

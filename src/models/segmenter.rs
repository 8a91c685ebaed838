//! A segmentation network: a backbone, and what scores pixels.

use super::backbones::encoder::Purpose;
use super::backbones::{Backbone, backbone};
use super::config::Config;
use super::dense::{DeepLab, Dense, PixelDecoder, PixelScores, SegmentationLosses, UperNet};
use super::features::Features;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::nn::Params;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Any backbone on tokens, and UperNet on four of its depths. Or a backbone on maps, and UperNet or DeepLab v3+ on its
/// pyramid.
#[derive(Debug, Clone)]
pub struct Segmenter {
    /// The encoder.
    pub backbone: Backbone,
    features: Features,
    head: Head,
}

#[derive(Debug, Clone)]
enum Head {
    UperNet(Box<UperNet>),
    DeepLab(Box<DeepLab>),
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
        let (backbone, features) = params
            .scope("backbone", |p| Ok((backbone(g, p, config, Purpose::Pretraining)?, Features::new(p, config)?)))?;
        let head = match segmentation.decoder {
            PixelDecoder::UperNet => Head::UperNet(Box::new(UperNet::new(
                params,
                &segmentation.upernet(config.feature_maps()?, config.classes),
            )?)),
            PixelDecoder::DeepLab => Head::DeepLab(Box::new(DeepLab::new(
                params,
                &segmentation.deeplab(config.map_widths()?, config.classes),
            )?)),
        };
        Ok(Self { backbone, features, head })
    }

    /// All patches (B, L, P·P·3) in raster order → scores (B, h, w, K) of the cells of a fourth of a patch's side, or
    /// of the first map of a backbone on maps.
    /// `drop_path` has DropPath's factors, and `dropped` those of the dropout of channels.
    pub fn forward(
        &self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>, dropped: [Option<&Tensor>; 2],
    ) -> Result<PixelScores> {
        let maps = self.features.forward(r, &self.backbone, patches, drop_path)?;
        match &self.head {
            Head::UperNet(head) => head.forward(r, maps.each_ref(), dropped),
            Head::DeepLab(head) => head.forward(r, maps.each_ref(), dropped),
        }
    }

    /// The losses against labels (B, H, W) of u32; those not below K are ignored.
    pub fn losses(&self, r: &mut Recorder, scores: &PixelScores, labels: &Tensor) -> Result<SegmentationLosses> {
        match &self.head {
            Head::UperNet(head) => head.losses(r, scores, labels),
            Head::DeepLab(head) => head.losses(r, scores, labels),
        }
    }
}

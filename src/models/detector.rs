//! A detector: a backbone, a pyramid of maps, region proposals, the cascade and the mask head.
//!
//! Its programs have fixed sizes. Truths, sampled boxes and objects lie in a fixed number of rows, of which some are
//! not valid: these have no loss and no gradient. Only proposals depend on what the network says. So a step is one
//! recording with one mark ([`Recording::mark`](crate::gpu::Recording::mark)): the host reads scores and deltas there,
//! chooses and samples boxes ([`boxes`](super::dense::boxes)), and writes them for the rest.

use super::backbones::encoder::Purpose;
use super::backbones::{Backbone, backbone};
use super::config::Config;
use super::dense::{
    CascadeHeads, CascadeStage, Dense, Detection, FeaturePyramid, LevelProposals, MaskHead, MaskTargets,
    RegionProposals, RegionTargets, SimpleFeaturePyramid,
};
use super::features::Features;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::nn::Params;
use crate::ops::add::add;
use crate::ops::box_refine::RefinedBoxes;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Epsilon of the pyramid's layer norms, as in detectron2.
const EPS: f32 = 1e-6;

/// Cascade Mask R-CNN with the heads of ViTDet.
#[derive(Debug, Clone)]
pub struct Detector {
    /// The encoder.
    pub backbone: Backbone,
    pyramid: Pyramid,
    proposals: RegionProposals,
    cascade: CascadeHeads,
    masks: Option<MaskHead>,
    detection: Detection,
}

/// Where maps of strides 4 to 64 come from.
#[derive(Debug, Clone)]
enum Pyramid {
    /// The last layer of a backbone on tokens.
    Simple(Box<SimpleFeaturePyramid>),
    /// The maps of one on maps.
    TopDown(Features, FeaturePyramid),
}

/// What a detector says before the host chooses proposals.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// p2 to p6.
    pub maps: [Var; 5],
    /// Scores and deltas of the anchors of each level.
    pub levels: Vec<LevelProposals>,
}

/// The losses of a step, (1) each.
#[derive(Debug, Clone)]
pub struct DetectionLosses {
    /// Of the scores and of the deltas of region proposals.
    pub proposals: [Var; 2],
    /// The stages of the cascade.
    pub stages: Vec<CascadeStage>,
    /// Of masks.
    pub masks: Option<Var>,
    /// Their sum, which is differentiated.
    pub total: Var,
}

impl Detector {
    /// Parameters `backbone.{net, simfp_2, …}`, or `backbone.{bottom_up, fpn_lateral2, …}` of a backbone on maps,
    /// `proposal_generator` and `roi_heads`, as in detectron2.
    ///
    /// # Errors
    /// A configuration without [`Config::dense`] for detection, or one that does not pass [`Config::validate`].
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let Some(Dense::Detection(detection)) = &config.dense else {
            return Err(Error::argument("dense", format!("{:?}", config.dense), "detection"));
        };
        let (channels, classes) = (detection.channels, config.classes);
        let (backbone, pyramid) = params.scope("backbone", |p| {
            if config.hierarchy.is_none() {
                let net = p.scope("net", |p| backbone(g, p, config, Purpose::Pretraining))?;
                let pyramid = SimpleFeaturePyramid::new(p, config.width, channels, EPS)?;
                return Ok((net, Pyramid::Simple(Box::new(pyramid))));
            }
            let (net, features) = p.scope("bottom_up", |p| {
                Ok((backbone(g, p, config, Purpose::Pretraining)?, Features::new(p, config)?))
            })?;
            Ok((net, Pyramid::TopDown(features, FeaturePyramid::new(p, config.map_widths()?, channels, EPS)?)))
        })?;
        let patch = config.detection_cell();
        let anchors = detection.anchors(patch).per_cell();
        let proposals = params.scope("proposal_generator", |p| RegionProposals::new(p, channels, 2, anchors))?;
        let (cascade, masks) = params.scope("roi_heads", |p| {
            let cascade = CascadeHeads::new(p, &detection.cascade(classes, patch))?;
            Ok((cascade, detection.mask_head(classes, patch).map(|head| MaskHead::new(p, &head)).transpose()?))
        })?;
        Ok(Self { backbone, pyramid, proposals, cascade, masks, detection: detection.clone() })
    }

    /// All patches (B, L, P·P·3) in raster order → the pyramid, and what region proposals say of its anchors.
    pub fn propose(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Proposed> {
        let maps = match &self.pyramid {
            Pyramid::Simple(pyramid) => {
                let depths = self.backbone.depths(r, patches, drop_path, 1)?;
                r.scope("backbone", |r| pyramid.forward(r, &depths[0]))?
            }
            Pyramid::TopDown(features, pyramid) => {
                let maps = features.forward(r, &self.backbone, patches, drop_path)?;
                r.scope("backbone", |r| pyramid.forward(r, &maps))?
            }
        };
        let levels = r.scope("proposal_generator", |r| self.proposals.forward(r, &maps))?;
        Ok(Proposed { maps, levels })
    }

    /// The losses of a step on what was proposed. `anchors` are the targets of each level. `boxes` are the sampled
    /// boxes and `masks` those of objects, which the host writes after it has read what was proposed. `sizes` (B, 2)
    /// are rows and columns of the pictures; `truths` (B, G, 5) boxes and classes, below 0 where there is none.
    pub fn losses(
        &self, r: &mut Recorder, proposed: &Proposed, anchors: &[RegionTargets], boxes: &RefinedBoxes,
        masks: Option<&MaskTargets>, [sizes, truths]: [&Tensor; 2],
    ) -> Result<DetectionLosses> {
        let proposals = r.scope("proposal_generator", |r| {
            self.proposals.losses(r, &proposed.levels, anchors, self.detection.anchors)
        })?;
        let total = add(r, &proposals[0], &proposals[1])?;
        let pooled = &proposed.maps[..Detection::POOLED];
        let (stages, cascade) = r.scope("roi_heads", |r| self.cascade.train(r, pooled, boxes, sizes, truths))?;
        let mut total = add(r, &total, &cascade)?;
        let mut loss = None;
        if let (Some(head), Some(targets)) = (&self.masks, masks) {
            let found = r.scope("roi_heads", |r| {
                let masks = head.forward(r, pooled, &targets.rois, &targets.classes)?;
                head.loss(r, &masks, &targets.masks, &targets.valid)
            })?;
            total = add(r, &total, &found)?;
            loss = Some(found);
        }
        Ok(DetectionLosses { proposals, stages, masks: loss, total })
    }

    /// The cascade in evaluation, on boxes (R, 5): scores of each stage, and the boxes that the last one leaves.
    pub fn refine(
        &self, r: &mut Recorder, proposed: &Proposed, rois: &Tensor, valid: &Tensor, sizes: &Tensor,
    ) -> Result<(Vec<Var>, Tensor)> {
        let pooled = &proposed.maps[..Detection::POOLED];
        r.scope("roi_heads", |r| self.cascade.infer(r, pooled, rois, valid, sizes))
    }

    /// Masks (R, M, M) of boxes (R, 5) of these classes (R), as scores; `None` if objects have none.
    pub fn masks(&self, r: &mut Recorder, proposed: &Proposed, rois: &Tensor, classes: &Tensor) -> Result<Option<Var>> {
        let pooled = &proposed.maps[..Detection::POOLED];
        let head = self.masks.as_ref();
        head.map(|head| r.scope("roi_heads", |r| head.forward(r, pooled, rois, classes))).transpose()
    }
}

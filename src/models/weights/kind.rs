//! The kind of a checkpoint, by the names of its tensors.

use std::fmt;

use crate::models::config::Family;
use crate::nn::Weights;

/// Kinds of checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// Backbone and head.
    Classifier,
    /// A backbone without head.
    Encoder,
    /// Encoder and decoder of MAP.
    Map,
    /// Encoder and decoder of MAE.
    Mae,
    /// Encoder and decoder of ARM.
    Arm,
    /// Encoder and decoder of MAP, and a denoiser.
    Diffusion,
    /// A backbone with the projector of contrastive pretraining.
    Contrastive,
    /// Encoder and decoder of point clouds.
    Points,
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classifier => "a classifier",
            Self::Encoder => "an encoder without head",
            Self::Map => "an encoder with MAP's decoder",
            Self::Mae => "an encoder with MAE's decoder",
            Self::Arm => "an encoder with ARM's decoder",
            Self::Diffusion => "an encoder with MAP's decoder and a denoiser",
            Self::Contrastive => "an encoder with the projector of contrastive pretraining",
            Self::Points => "an encoder with a decoder of point clouds",
        })
    }
}

/// The kind of a checkpoint. Each kind has a layer that the others lack.
pub fn contents(weights: &Weights) -> Contents {
    let has = |name: &str| weights.contains_key(name);
    if has("ar_token") {
        Contents::Arm
    } else if has("ar_pred.weight") {
        Contents::Map
    } else if has("decoder_pred.weight") {
        Contents::Mae
    } else if weights.keys().any(|name| name.starts_with("diffloss.")) {
        Contents::Diffusion
    } else if has("projector.0.weight") {
        Contents::Contrastive
    } else if has("increase_dim.0.weight") {
        Contents::Points
    } else if Family::all()
        .any(|family| has(&format!("{}.weight", family.head)) || has(&format!("{}.8.weight", family.head)))
    {
        Contents::Classifier
    } else {
        Contents::Encoder
    }
}

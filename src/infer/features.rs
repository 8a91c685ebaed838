//! Features of whole images: the mean of a backbone's patch tokens.

use super::program::InferenceProgram;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::adapt;
use crate::models::{Backbone, Config, Purpose, backbone};
use crate::nn::{Params, Weights};
use crate::ops::reduce;

/// The backbone of a checkpoint, whether a decoder or a classifier was trained on top of it. Without `weights`, a
/// backbone with initial values drawn from `seed`.
///
/// # Errors
/// A layer that is missing, has another shape, or is one too many.
pub fn open_backbone(g: &Gpu, config: &Config, weights: Option<Weights>, seed: u64) -> Result<(Params, Backbone)> {
    let mut params = Params::new(g);
    let backbone = backbone(g, &mut params, config, Purpose::Pretraining)?;
    match weights {
        Some(weights) => params.load(g, &adapt(weights, config, &params, seed)?.weights)?,
        None => params.init(g, seed)?,
    }
    Ok((params, backbone))
}

/// A forward program from `batch` images to their features (B, D): the mean of all patch tokens.
pub fn mean_features(g: &Gpu, backbone: &Backbone, config: &Config, batch: usize) -> Result<InferenceProgram> {
    InferenceProgram::new(g, config, batch, |r, patches| {
        let tokens = backbone.tokens(r, patches, None)?; // (B, L, D)
        reduce::mean_tokens(r, &tokens) // (B, D)
    })
}

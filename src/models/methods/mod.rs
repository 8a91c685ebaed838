//! A model and its pretraining method, whichever it is: what the loop, the pictures and the features ask of it.

pub mod contrastive;
pub mod diffusion;
pub mod mae;
pub mod map;
pub mod objective;
pub mod region_decoder;

use super::backbones::Backbone;
use super::batch::Batch;
use super::config::{Config, DecoderKind};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::nn::Params;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;
use contrastive::Contrastive;
use diffusion::Diffusion;
use mae::Mae;
use map::{Map, Outputs};
use objective::{Method, Objective};

/// A model that is being pretrained.
#[derive(Debug)]
pub enum Pretext {
    /// Hidden patches, predicted by MAP's pipeline.
    Map(Map),
    /// Hidden patches, predicted by MAE's ViT decoder.
    Mae {
        /// Encoder and decoder.
        model: Mae,
        /// Whether the target is normalised.
        normalise: bool,
    },
    /// Hidden patches, by a diffusion.
    Diffusion(Diffusion),
    /// Two crops that are to agree.
    Contrastive(Contrastive),
}

/// What a step leaves besides gradients.
#[derive(Debug)]
pub struct Forward {
    /// The loss, one number.
    pub loss: Var,
    /// Keys for the queue.
    keys: Option<Tensor>,
}

impl Pretext {
    /// Parameters under their official names.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Self> {
        objective.check(config)?;
        Ok(match (objective.method, config.decoder.kind) {
            (Method::Contrastive, _) => Self::Contrastive(Contrastive::new(g, params, config, objective)?),
            (Method::Diffusion, _) => Self::Diffusion(Diffusion::new(g, params, config, objective)?),
            (_, DecoderKind::Map) => Self::Map(Map::with(g, params, config, objective)?),
            (_, DecoderKind::Mae) => {
                Self::Mae { model: Mae::new(g, params, config)?, normalise: objective.normalize() }
            }
        })
    }

    /// What has to be there before the first step besides the weights in `params`.
    pub fn init(&self, g: &Gpu, params: &Params, seed: u64) -> Result<()> {
        if let Self::Contrastive(model) = self { model.init(g, params, seed) } else { Ok(()) }
    }

    /// What training changes besides the weights, by the file of a checkpoint that it is kept in.
    pub fn companions(&self) -> Vec<(&'static str, &Params)> {
        match self {
            Self::Contrastive(model) => vec![("keys.safetensors", &model.keys), ("queue.safetensors", &model.queue)],
            _ => Vec::new(),
        }
    }

    /// Crops of an image that a batch holds.
    pub fn crops(&self) -> usize {
        if matches!(self, Self::Contrastive(_)) { 2 } else { 1 }
    }

    /// Whether it asks for [`Batch::counted`].
    pub fn reads_counted(&self) -> bool {
        matches!(self, Self::Diffusion(_))
    }

    /// The encoder, which is what pretraining is for.
    pub fn encoder(&self) -> &Backbone {
        match self {
            Self::Map(model) => model.encoder(),
            Self::Mae { model, .. } => model.encoder(),
            Self::Diffusion(model) => model.encoder(),
            Self::Contrastive(model) => model.encoder(),
        }
    }

    /// Whether predictions are in units of the patch's mean and deviation.
    pub fn normalise(&self) -> bool {
        match self {
            Self::Map(model) => model.normalise(),
            Self::Mae { normalise, .. } => *normalise,
            Self::Diffusion(model) => model.normalise(),
            Self::Contrastive(_) => false,
        }
    }

    /// From a batch to the loss. Rows of `keep` are DropPath's draws; `state` is the
    /// [`StepState`](crate::ops::step::StepState) of the step.
    pub fn forward(
        &self, g: &Gpu, t: &mut Tape, batch: &Batch, keep: Option<&Tensor>, state: &Tensor,
    ) -> Result<Forward> {
        let (loss, keys) = match self {
            Self::Map(model) => (model.forward(g, t, batch, keep)?.loss, None),
            Self::Mae { model, normalise } => (model.forward(g, t, batch, keep, *normalise)?.loss, None),
            Self::Diffusion(model) => (model.forward(g, t, batch, keep, state)?, None),
            Self::Contrastive(model) => {
                let Some(second) = &batch.second else {
                    return Err(Error::argument("batch", "one crop of each image", "two for contrastive pretraining"));
                };
                let (loss, keys) = model.forward(g, t, [&batch.patches, second], keep)?;
                (loss, Some(keys))
            }
        };
        Ok(Forward { loss, keys })
    }

    /// What is predicted of hidden patches, where that takes one pass: not by a diffusion, not by contrast.
    pub fn predict(&self, g: &Gpu, t: &mut Tape, batch: &Batch) -> Result<Option<Outputs>> {
        match self {
            Self::Map(model) => model.forward(g, t, batch, None).map(Some),
            Self::Mae { model, normalise } => model.forward(g, t, batch, None, *normalise).map(Some),
            Self::Diffusion(_) | Self::Contrastive(_) => Ok(None),
        }
    }

    /// What has to happen after backward.
    pub fn finish(&self, g: &Gpu, state: &Tensor, forward: &Forward) -> Result<()> {
        match (self, &forward.keys) {
            (Self::Contrastive(model), Some(keys)) => model.enqueue(g, state, keys),
            _ => Ok(()),
        }
    }
}

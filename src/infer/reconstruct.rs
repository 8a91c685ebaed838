//! Reconstructions: the predictions of hidden patches as pictures.

use super::diffusion_sampler::Sampler;
use crate::data::imagenet::{MEAN, STD};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Program};
use crate::models::{Config, Method, Pretext};
use crate::tape::Recorder;
use crate::tensor::Tensor;
use crate::train::pretrain::inputs::{PretrainInputs, Tables};
use crate::train::pretrain::mask::PatchMask;

/// The programs for one batch size and one number of visible patches.
#[derive(Debug)]
pub struct Reconstructor {
    g: Gpu,
    config: Config,
    normalize: Option<f32>,
    /// The patches that the method predicts, where these are not the hidden ones.
    targets: Option<Vec<bool>>,
    inputs: PretrainInputs,
    tables: Tables,
    predictor: Predictor,
}

/// How the patches are predicted.
#[derive(Debug)]
enum Predictor {
    /// In one forward pass.
    Once(Box<Pass>),
    /// By removing noise step by step.
    Sampled(Box<Sampler>),
}

/// A forward pass: predictions (B, L, P·P·3) and the loss.
#[derive(Debug)]
struct Pass {
    program: Program,
    pred: Tensor,
    loss: Tensor,
}

/// One image and its reconstruction, as bytes (S, S, 3).
#[derive(Debug, Clone)]
pub struct Pictures {
    /// The image.
    pub original: Vec<u8>,
    /// The image with gray in place of patches that are predicted: the hidden ones, or all that a method predicts from
    /// others.
    pub masked: Vec<u8>,
    /// The image with predictions in these places.
    pub reconstruction: Vec<u8>,
    /// The mean squared error of each predicted patch in units of the target, 0 for the others: (L).
    pub errors: Vec<f32>,
    /// The predictions in units of the target: (L, P·P·3).
    pub predicted: Vec<f32>,
}

impl Reconstructor {
    /// Records the forward pass of `model` for `batch` images with `visible` tokens each.
    ///
    /// # Errors
    /// A model that predicts no pixels.
    pub fn new(g: &Gpu, model: &dyn Pretext, config: &Config, batch: usize, visible: usize) -> Result<Self> {
        let inputs = PretrainInputs::new(config, batch)?.of(config, model)?;
        let tables = inputs.tables(visible)?;
        let normalize = model.normalize();
        let predictor = match model.denoiser() {
            Some(denoiser) => {
                Predictor::Sampled(Box::new(Sampler::new(g, denoiser, normalize.is_some(), config, &inputs, &tables)?))
            }
            None => {
                let (recording, out) = Recorder::inference(g).record(|r| {
                    let batch = inputs.batch(r, &tables)?;
                    model.predict(r, &batch)
                })?;
                let Some(out) = out else {
                    let expected = format!("one that predicts patches: {}", Method::names(|m| m.predicts));
                    return Err(Error::argument("the model to reconstruct with", model.method(), expected));
                };
                let program = Program::new(recording)?;
                Predictor::Once(Box::new(Pass { program, pred: out.pred.data, loss: out.loss.data }))
            }
        };
        let targets = model.targets();
        Ok(Self { g: g.clone(), config: config.clone(), normalize, targets, inputs, tables, predictor })
    }

    /// 1 for each patch that the pictures of these images show as predicted (B, L): the hidden ones, or those that the
    /// method predicts whatever a mask hides.
    pub fn predicted(&self, mask: &PatchMask) -> Vec<f32> {
        match &self.targets {
            Some(targets) => targets.iter().map(|&t| f32::from(t)).cycle().take(mask.mask.len()).collect(),
            None => mask.mask.clone(),
        }
    }

    /// Images (B, S, S, 3) → pictures, and the mean squared error over the predicted patches in units of the target.
    pub async fn run(&self, images: &[u8], mask: &PatchMask) -> Result<(Vec<Pictures>, f32)> {
        self.inputs.write(&self.g, images, mask, &self.tables, (0, 1))?;
        let (pred, loss) = match &self.predictor {
            Predictor::Once(pass) => {
                pass.program.run()?;
                (pass.pred.to_vec_async(&self.g).await?, pass.loss.to_vec_async(&self.g).await?)
            }
            Predictor::Sampled(sampler) => sampler.run(mask).await?,
        };
        let (tokens, values) = (self.config.tokens(), self.config.patch_len());
        let bytes = self.config.image_size * self.config.image_size * 3;
        let each =
            images.chunks_exact(bytes).zip(pred.chunks_exact(tokens * values)).zip(mask.inverse.chunks_exact(tokens));
        let pictures = each.map(|((image, pred), inverse)| self.pictures(image, pred, inverse)).collect();
        Ok((pictures, loss.first().copied().unwrap_or(f32::NAN)))
    }

    fn pictures(&self, image: &[u8], pred: &[f32], inverse: &[u32]) -> Pictures {
        let (side, p, grid) = (self.config.image_size, self.config.patch_size, self.config.grid());
        let (mut masked, mut reconstruction) = (image.to_vec(), image.to_vec());
        let mut errors = vec![0.0; inverse.len()];
        for (token, predicted) in pred.chunks_exact(self.config.patch_len()).enumerate() {
            if !self.targets.as_ref().map_or(inverse[token] == u32::MAX, |targets| targets[token]) {
                continue;
            }
            let (top, left) = (token / grid * p, token % grid * p);
            let at = |i: usize| ((top + i / (3 * p)) * side + left + i / 3 % p) * 3 + i % 3;
            let normal = |i: usize| (f32::from(image[at(i)]) / 255.0 - MEAN[i % 3]) / STD[i % 3];
            let n = predicted.len() as f32;
            // a normalized prediction becomes pixels again by the mean and deviation of the true patch
            let (mut mean, mut deviation) = (0.0, 1.0);
            if let Some(eps) = self.normalize {
                mean = (0..predicted.len()).map(normal).sum::<f32>() / n;
                let var = (0..predicted.len()).map(|i| (normal(i) - mean).powi(2)).sum::<f32>() / (n - 1.0);
                deviation = (var + eps).sqrt();
            }
            for (i, value) in predicted.iter().enumerate() {
                errors[token] += (value - (normal(i) - mean) / deviation).powi(2) / n;
                let pixel = (value * deviation + mean) * STD[i % 3] + MEAN[i % 3];
                reconstruction[at(i)] = (pixel * 255.0).round().clamp(0.0, 255.0) as u8;
                masked[at(i)] = 128;
            }
        }
        Pictures { original: image.to_vec(), masked, reconstruction, errors, predicted: pred.to_vec() }
    }
}

//! What the model makes of hidden patches: a forward program, and its predictions as pictures.

use super::images::{MEAN, STD};
use super::mask::Mask;
use super::step::Inputs;
use crate::error::Result;
use crate::gpu::{Gpu, Program};
use crate::models::{Config, Map};
use crate::tape::Tape;
use crate::tensor::Tensor;

/// A forward program for one batch size and visible length.
#[derive(Debug)]
pub struct Reconstructor {
    g: Gpu,
    config: Config,
    inputs: Inputs,
    program: Program,
    visible: Tensor,
    pred: Tensor,
    loss: Tensor,
}

/// One image, three ways; each (S, S, 3) bytes.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// As it came.
    pub original: Vec<u8>,
    /// Hidden patches grey.
    pub masked: Vec<u8>,
    /// Hidden patches as predicted.
    pub reconstruction: Vec<u8>,
    /// (L) mean squared error of each hidden patch in units of the normalised patch; 0 where visible.
    pub errors: Vec<f32>,
}

impl Reconstructor {
    /// Records the forward pass of `model` for `batch` images with `visible` tokens each.
    pub fn new(g: &Gpu, model: &Map, config: &Config, batch: usize, visible: usize) -> Result<Self> {
        let inputs = Inputs::new(config, batch)?;
        let (recording, (visible, pred, loss)) = g.record(|| {
            let table = Tensor::input("visible", &[batch, visible]);
            let batch = inputs.batch(g, config, &table)?;
            let out = model.forward(g, &mut Tape::off(), &batch, None)?;
            Ok((table, out.pred.data, out.loss.data))
        })?;
        let program = Program::new(g, recording)?;
        Ok(Self { g: g.clone(), config: config.clone(), inputs, program, visible, pred, loss })
    }

    /// Images (B, S, S, 3) → pictures and the loss over the hidden patches.
    pub async fn run(&self, images: &[u8], mask: &Mask) -> Result<(Vec<Pictures>, f32)> {
        self.inputs.write(&self.g, images, mask, &self.visible, (0, 1))?;
        self.program.run()?;
        let pred = self.pred.to_vec_async(&self.g).await?;
        let loss = self.loss.to_vec_async(&self.g).await?;
        let (tokens, values) = (self.config.tokens(), self.config.patch_len());
        let bytes = self.config.image_size * self.config.image_size * 3;
        let each =
            images.chunks_exact(bytes).zip(pred.chunks_exact(tokens * values)).zip(mask.inverse.chunks_exact(tokens));
        let pictures = each.map(|((image, pred), inverse)| self.pictures(image, pred, inverse)).collect();
        Ok((pictures, loss.first().copied().unwrap_or(f32::NAN)))
    }

    /// (B, L, P·P·3) what the last run predicted, in units of the normalised patch.
    pub async fn predictions(&self) -> Result<Vec<f32>> {
        self.pred.to_vec_async(&self.g).await
    }

    fn pictures(&self, image: &[u8], pred: &[f32], inverse: &[u32]) -> Pictures {
        let (side, p, grid) = (self.config.image_size, self.config.patch_size, self.config.grid());
        let (mut masked, mut reconstruction) = (image.to_vec(), image.to_vec());
        let mut errors = vec![0.0; inverse.len()];
        for (token, predicted) in pred.chunks_exact(self.config.patch_len()).enumerate() {
            if inverse[token] != u32::MAX {
                continue;
            }
            let (top, left) = (token / grid * p, token % grid * p);
            let at = |i: usize| ((top + i / (3 * p)) * side + left + i / 3 % p) * 3 + i % 3;
            // the prediction is in units of the patch: its own mean and deviation bring it back to pixels
            let normal = |i: usize| (f32::from(image[at(i)]) / 255.0 - MEAN[i % 3]) / STD[i % 3];
            let n = predicted.len() as f32;
            let mean = (0..predicted.len()).map(normal).sum::<f32>() / n;
            let var = (0..predicted.len()).map(|i| (normal(i) - mean).powi(2)).sum::<f32>() / (n - 1.0);
            let deviation = (var + 1e-6).sqrt();
            for (i, value) in predicted.iter().enumerate() {
                errors[token] += (value - (normal(i) - mean) / deviation).powi(2) / n;
                let pixel = (value * deviation + mean) * STD[i % 3] + MEAN[i % 3];
                reconstruction[at(i)] = (pixel * 255.0).round().clamp(0.0, 255.0) as u8;
                masked[at(i)] = 128;
            }
        }
        Pictures { original: image.to_vec(), masked, reconstruction, errors }
    }
}

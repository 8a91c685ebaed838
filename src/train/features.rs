//! The encoder's features of whole images: every token visible, averaged over tokens.

use super::mask::{MaskRatio, MaskStrategy, Masker};
use super::step::{Inputs, Tables};
use crate::error::Result;
use crate::gpu::{Gpu, Program};
use crate::models::{Backbone, Config};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// A forward program of the encoder for one batch size.
#[derive(Debug)]
pub struct FeatureExtractor {
    g: Gpu,
    inputs: Inputs,
    program: Program,
    tables: Tables,
    masker: Masker,
    features: Tensor,
}

impl FeatureExtractor {
    /// Records the encoder for `batch` images with all tokens.
    pub fn new(g: &Gpu, encoder: &Backbone, config: &Config, batch: usize) -> Result<Self> {
        let inputs = Inputs::new(config, batch)?;
        let tables = inputs.tables(config.tokens())?;
        let (recording, features) = g.record(|| {
            let batch = inputs.batch(g, config, &tables)?;
            let mut t = Tape::off();
            let patches = Var::constant(batch.patches);
            Ok(encoder.tokens(g, &mut t, &patches, None)?.data)
        })?;
        let masker = Masker::new(MaskStrategy::Sequential, MaskRatio::Fixed(0.0), (config.grid(), config.grid()), 0)?;
        Ok(Self { g: g.clone(), program: Program::new(g, recording)?, inputs, tables, masker, features })
    }

    /// Images (B, S, S, 3) → mean features (B, D).
    pub async fn run(&self, images: &[u8]) -> Result<Vec<f32>> {
        let &[b, l, d] = self.features.shape() else { return Ok(Vec::new()) };
        self.inputs.write(&self.g, images, &self.masker.draw(0, b), &self.tables, (0, 1))?;
        self.program.run()?;
        let tokens = self.features.to_vec_async(&self.g).await?;
        let mut means = vec![0.0; b * d];
        for (mean, image) in means.chunks_exact_mut(d).zip(tokens.chunks_exact(l * d)) {
            for token in image.chunks_exact(d) {
                mean.iter_mut().zip(token).for_each(|(m, v)| *m += v / l as f32);
            }
        }
        Ok(means)
    }
}

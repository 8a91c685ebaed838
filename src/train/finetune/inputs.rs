//! The inputs of a fine-tuning step: images, and the probabilities that the model should give their classes.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::Config;
use crate::tape::Recorder;
use crate::tensor::Tensor;
use crate::train::image_input::{Images, share};

/// Buffers on the GPU for one micro-batch of B images.
#[derive(Debug, Clone)]
pub struct FinetuneInputs {
    images: Images,
    /// Side of the patches that the model reads.
    patch: usize,
    /// Probability of each class for each image (B, K): one-hot, smoothed, or mixed of two images.
    pub(super) targets: Tensor,
}

impl FinetuneInputs {
    /// Buffers for `batch` square images of the model's size and targets for its classes.
    pub fn of(config: &Config, batch: usize) -> Result<Self> {
        let targets = Tensor::input("targets", &[batch, config.classes]);
        Ok(Self { images: Images::new(config, batch)?, patch: config.input_patch(), targets })
    }

    /// Launches the patches (B, L, P·P·3) of the uploaded images.
    pub fn patches(&self, r: &mut Recorder) -> Result<Tensor> {
        self.images.patches(r, self.patch)
    }

    /// Refuses targets that are not one row for each image of `parts` micro-batches.
    pub fn expect(&self, targets: &[f32], parts: usize) -> Result<()> {
        let expected = self.targets.len() * parts;
        if targets.len() == expected { Ok(()) } else { Err(Error::argument("targets", targets.len(), expected)) }
    }

    /// Uploads micro-batch `part` of `parts`: its share of the images (parts · B, S, S, 3) in bytes, and of the targets
    /// (parts · B, K).
    pub fn upload(&self, g: &Gpu, images: &[u8], targets: &[f32], part: (usize, usize)) -> Result<()> {
        self.images.write(g, images, part)?;
        self.targets.write(g, share(targets, part))
    }
}

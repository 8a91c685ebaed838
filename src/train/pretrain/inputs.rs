//! The inputs of a pretraining step: images, and the index tables of a mask.

use super::mask::tables::PatchMask;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{Config, MaskedBatch, Pretext};
use crate::tape::Recorder;
use crate::tensor::Tensor;
use crate::train::image_input::{Images, share};

/// Buffers on the GPU that the programs of all visible lengths read.
#[derive(Debug, Clone)]
pub struct PretrainInputs {
    images: Images,
    /// The second crop of each image.
    second: Option<Images>,
    inverse: Tensor,
    mask: Tensor,
    /// Position of each token among those whose loss counts, for losses that are computed on these tokens alone.
    counted: Option<Tensor>,
    /// Side of the patches that the model reads.
    patch: usize,
    pub(super) batch: usize,
    tokens: usize,
}

/// Index tables whose size depends on the number of visible tokens.
#[derive(Debug, Clone)]
pub struct Tables {
    visible: Tensor,
    counted: Option<Tensor>,
}

impl Tables {
    /// Visible tokens of an image.
    pub fn visible_len(&self) -> usize {
        self.visible.shape()[1]
    }

    /// Tokens of the whole batch whose loss counts; 0 unless the model reads their table.
    pub fn counted_tokens(&self) -> usize {
        self.counted.as_ref().map_or(0, Tensor::len)
    }
}

impl PretrainInputs {
    /// Buffers for `batch` square images of the model's size.
    pub fn new(config: &Config, batch: usize) -> Result<Self> {
        let tokens = config.tokens();
        Ok(Self {
            images: Images::new(config, batch)?,
            second: None,
            inverse: Tensor::indices("inverse", &[batch, tokens]),
            counted: None,
            mask: Tensor::input("mask", &[batch, tokens]),
            patch: config.patch_size,
            batch,
            tokens,
        })
    }

    /// These inputs, with what `model` reads besides: a second crop, a table of counted tokens. A model that hides
    /// nothing reads images as its encoder does, which on maps is pixel by pixel.
    pub fn of(mut self, config: &Config, model: &dyn Pretext) -> Result<Self> {
        if !model.method().hides {
            self.patch = config.input_patch();
        }
        self.second = (model.crops() > 1).then(|| Images::new(config, self.batch)).transpose()?;
        self.counted = model.reads_counted().then(|| Tensor::indices("counted", &[self.batch, self.tokens]));
        Ok(self)
    }

    /// Tables for `visible` tokens of each image.
    pub fn tables(&self, visible: usize) -> Result<Tables> {
        if !(1..=self.tokens).contains(&visible) {
            return Err(Error::argument("visible tokens", visible, format!("1 to {}", self.tokens)));
        }
        let table = |label, len: usize| Tensor::indices(label, &[self.batch, len]);
        let counted = self.counted.as_ref().map(|_| table("counted", self.counted(visible)));
        Ok(Tables { visible: table("visible", visible), counted })
    }

    /// Tokens per image whose loss counts if `visible` tokens are visible.
    fn counted(&self, visible: usize) -> usize {
        if visible == self.tokens { self.tokens } else { self.tokens - visible }
    }

    /// Launches the patches of the uploaded images, and bundles them with the tables of a batch.
    pub fn batch(&self, r: &mut Recorder, tables: &Tables) -> Result<MaskedBatch> {
        let counted = self.counted(tables.visible.shape()[1]);
        Ok(MaskedBatch {
            patches: self.images.patches(r, self.patch)?,
            second: self.second.as_ref().map(|images| images.patches(r, self.patch)).transpose()?,
            visible: tables.visible.clone(),
            inverse: self.inverse.clone(),
            mask: self.mask.clone(),
            scale: 1.0 / (self.batch * counted) as f32,
            counted: tables.counted.clone().zip(self.counted.clone()),
        })
    }

    /// Uploads micro-batch `part` of `parts`: its share of the images (parts · B, S, S, 3) in bytes, where all second
    /// crops follow all first ones, and of the mask.
    pub fn write(&self, g: &Gpu, images: &[u8], mask: &PatchMask, tables: &Tables, part: (usize, usize)) -> Result<()> {
        let (first, second) = match &self.second {
            Some(_) => images.split_at(images.len() / 2),
            None => (images, &[][..]),
        };
        self.images.write(g, first, part)?;
        self.second.as_ref().map_or(Ok(()), |images| images.write(g, second, part))?;
        self.inverse.write(g, share(&mask.inverse, part))?;
        self.mask.write(g, share(&mask.mask, part))?;
        if let Some((table, inverse)) = tables.counted.as_ref().zip(self.counted.as_ref()) {
            let (counted, columns) = mask.counted();
            table.write(g, share(&counted, part))?;
            inverse.write(g, share(&columns, part))?;
        }
        tables.visible.write(g, share(&mask.visible, part))
    }
}

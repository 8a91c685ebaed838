//! Images on their way into a model. They are uploaded as bytes; normalizing (`transforms.Normalize`) and cutting into
//! patches happen on the GPU.

use crate::data::imagenet::{MEAN, STD};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::Config;
use crate::ops::patchify;
use crate::tape::Recorder;
use crate::tensor::Tensor;

/// The GPU buffer of a batch of images, which the host overwrites before each step.
#[derive(Debug, Clone)]
pub struct Images {
    bytes: Tensor,
    batch: usize,
    side: usize,
}

impl Images {
    /// A buffer for `batch` square images of the model's size.
    pub fn new(config: &Config, batch: usize) -> Result<Self> {
        if batch == 0 {
            return Err(Error::argument("batch size", 0, "at least 1"));
        }
        if let Some(width) = config.image_width {
            return Err(Error::argument("image_width", width, "none: batches are of square images"));
        }
        let side = config.image_size;
        Ok(Self { bytes: Tensor::indices("images", &[(batch * side * side * 3).div_ceil(4)]), batch, side })
    }

    /// Launches the normalized patches (B, L, P·P·3). A patch is in conv order (channel, y, x), so that the patch
    /// embedding is a matrix product with the weight of timm's `Conv2d`. `patch` is P:
    /// [`Config::input_patch`] for whole images, [`Config::patch_size`](Config) where patches are hidden.
    pub fn patches(&self, r: &mut Recorder, patch: usize) -> Result<Tensor> {
        patchify::from_u8(r, &self.bytes, [self.batch, self.side, self.side], patch, MEAN, STD)
    }

    /// Uploads micro-batch `part` of the `parts` in `images` (parts · B, S, S, 3).
    pub fn write(&self, g: &Gpu, images: &[u8], (part, parts): (usize, usize)) -> Result<()> {
        let each = self.batch * self.side * self.side * 3;
        if images.len() != each * parts {
            let expected = format!("{} bytes", each * parts);
            return Err(Error::argument("images", format!("{} bytes", images.len()), expected));
        }
        let images = &images[part * each..][..each];
        if each.is_multiple_of(4) {
            return self.bytes.write(g, images);
        }
        let mut padded = images.to_vec();
        padded.resize(each.next_multiple_of(4), 0);
        self.bytes.write(g, &padded)
    }
}

/// Slice number `part` of `parts` slices of equal length.
pub(crate) fn share<T>(all: &[T], (part, parts): (usize, usize)) -> &[T] {
    let each = all.len() / parts.max(1);
    &all[part * each..][..each]
}

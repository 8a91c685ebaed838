//! Images on their way into a model. They are uploaded as bytes; normalizing (`transforms.Normalize`) and cutting into
//! patches happen on the GPU.

use crate::data::imagenet::{MEAN, STD};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::Config;
use crate::ops::patchify;
use crate::tape::Recorder;
use crate::tensor::Tensor;

/// The GPU buffer of a batch of images or of point clouds, which the host overwrites before each step. Clouds come as
/// patches of f32 values, and are patches on the GPU as they are.
#[derive(Debug, Clone)]
pub struct Images {
    bytes: Tensor,
    batch: usize,
    side: usize,
    /// Bytes of a sample.
    each: usize,
    clouds: bool,
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
        let (side, each, clouds) = (config.image_size, config.sample_bytes(), config.points.is_some());
        let bytes = match clouds {
            true => Tensor::input("clouds", &[batch, config.tokens(), config.patch_len()]),
            false => Tensor::indices("images", &[(batch * each).div_ceil(4)]),
        };
        Ok(Self { bytes, batch, side, each, clouds })
    }

    /// Launches the normalized patches (B, L, P·P·3). A patch is in conv order (channel, y, x), so that the patch
    /// embedding is a matrix product with the weight of timm's `Conv2d`. `patch` is P:
    /// [`Config::input_patch`] for whole images, [`Config::patch_size`](Config) where patches are hidden.
    pub fn patches(&self, r: &mut Recorder, patch: usize) -> Result<Tensor> {
        if self.clouds {
            return Ok(self.bytes.clone());
        }
        patchify::from_u8(r, &self.bytes, [self.batch, self.side, self.side], patch, MEAN, STD)
    }

    /// Uploads micro-batch `part` of the `parts` in `images` (parts · B, S, S, 3).
    pub fn write(&self, g: &Gpu, images: &[u8], (part, parts): (usize, usize)) -> Result<()> {
        let each = self.batch * self.each;
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

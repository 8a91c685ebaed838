//! Backbones on maps: what they share, and how they become an [`Encoder`].

use std::fmt;

use super::encoder::Encoder;
use crate::error::{Error, Result};
use crate::models::config::Config;
use crate::ops::add::{add, add_drop_path};
use crate::ops::layer_scale::layer_scale;
use crate::ops::reduce::mean_tokens;
use crate::ops::reshape::reshape;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// A backbone that maps an image to a pyramid of maps: ResNet, EfficientNet, ConvNeXt, MambaVision, VMamba.
/// [`OnMaps`] makes an [`Encoder`] of it.
pub trait MapEncoder: fmt::Debug {
    /// Normalized pixels (B, H, W, 3) → the map behind each stage, the finest first: timm's `features_only=True`, with
    /// channels last. `drop_path` as in [`Encoder`].
    fn stages(&self, r: &mut Recorder, image: &Var, drop_path: Option<&Tensor>) -> Result<Vec<Var>>;

    /// The last stage's map (B, h, w, C) → the map (B, h, w, F) whose mean a classifier reads.
    fn last(&self, r: &mut Recorder, map: &Var) -> Result<Var> {
        let _ = r;
        Ok(map.clone())
    }

    /// Cells of that map (B, h·w, F) → what the head reads (B, F).
    fn pool(&self, r: &mut Recorder, cells: &Var) -> Result<Var> {
        mean_tokens(r, cells)
    }
}

/// x + `drop_path`·γ·h: a residual branch h (B, .., C) whose channels are scaled by γ (C), if there is one, and which
/// some samples drop. `drop_path` has a factor for each sample, as in
/// [`layer_scale`](crate::ops::layer_scale::layer_scale).
pub(super) fn add_branch(
    r: &mut Recorder, x: &Var, h: &Var, gamma: Option<&Var>, drop_path: Option<&Tensor>,
) -> Result<Var> {
    match (gamma, drop_path) {
        (Some(gamma), factors) => layer_scale(r, x, h, gamma, factors),
        (None, Some(factors)) => add_drop_path(r, x, h, factors),
        (None, None) => add(r, x, h),
    }
}

/// A [`MapEncoder`] with the size of its images.
#[derive(Debug, Clone)]
pub struct OnMaps<T> {
    net: T,
    height: usize,
    width: usize,
}

impl<T: MapEncoder> OnMaps<T> {
    /// `net` for the images of `config`.
    pub fn new(net: T, config: &Config) -> Self {
        Self { net, height: config.image_size, width: config.image_width.unwrap_or(config.image_size) }
    }

    /// Patches of one pixel (B, H·W, 3) → the image (B, H, W, 3).
    fn image(&self, r: &mut Recorder, patches: &Var) -> Result<Var> {
        let ([b, l, c], (h, w)) = (patches.data.dims("pixels")?, (self.height, self.width));
        if l != h * w || c != 3 {
            let got = format!("{:?}", patches.data.shape());
            return Err(Error::argument("pixels of a backbone on maps", got, format!("({b}, {}, 3)", h * w)));
        }
        reshape(r, patches, &[b, h, w, c])
    }
}

impl<T: MapEncoder> Encoder for OnMaps<T> {
    fn sequence(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let maps = self.pyramid(r, patches, drop_path)?;
        let last = maps.last().ok_or_else(|| Error::argument("stages", 0, "at least 1"))?;
        let map = self.net.last(r, last)?;
        let [b, h, w, f] = map.data.dims("last map")?;
        reshape(r, &map, &[b, h * w, f])
    }

    fn pool(&self, r: &mut Recorder, sequence: &Var) -> Result<Var> {
        self.net.pool(r, sequence)
    }

    fn pyramid(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Vec<Var>> {
        let image = self.image(r, patches)?;
        self.net.stages(r, &image, drop_path)
    }
}

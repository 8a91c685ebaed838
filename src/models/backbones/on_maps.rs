//! Backbones on maps: what they share, and how they become an [`Encoder`].

use std::fmt;
use std::sync::Arc;

use super::encoder::Encoder;
use super::layers::drop_path_row;
use crate::error::{Error, Result};
use crate::models::batch::MaskedBatch;
use crate::models::config::Config;
use crate::ops::add::{add, add_drop_path};
use crate::ops::hide::hide;
use crate::ops::layer_scale::layer_scale;
use crate::ops::patchify::to_map;
use crate::ops::reduce::mean_tokens;
use crate::ops::reshape::reshape;
use crate::ops::tokens::{gather, restore};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// A backbone that maps an image to a pyramid of maps: ResNet, EfficientNet, ConvNeXt, MambaVision, VMamba.
/// [`OnMaps`] makes an [`Encoder`] of it.
pub trait MapEncoder: fmt::Debug {
    /// Normalized pixels (B, H, W, 3) → the map behind each stage, the finest first: timm's `features_only=True`, with
    /// channels last. `hidden` are the parts of the image that masked pretraining hides; a family with
    /// `masked_pretraining` erases them. `drop_path` as in [`Encoder`].
    fn stages(
        &self, r: &mut Recorder, image: &Var, hidden: Option<&Hidden>, drop_path: Option<&Tensor>,
    ) -> Result<Vec<Var>>;

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

/// The hidden patches of a batch, for a backbone on maps.
#[derive(Debug, Clone)]
pub struct Hidden {
    /// [`MaskedBatch::visible`] and [`MaskedBatch::inverse`].
    visible: Tensor,
    inverse: Tensor,
    /// Rows and columns of patches.
    grid: [usize; 2],
    /// Stands for a hidden patch: (D), of the map whose cells are patches.
    token: Var,
}

impl Hidden {
    /// A map (B, H, W, C) with zeros in the cells of hidden patches.
    pub fn erase(&self, r: &mut Recorder, map: &Var) -> Result<Var> {
        hide(r, map, &self.inverse, self.grid)
    }

    /// A map (B, h, w, D) whose cells are patches, with the token in place of the hidden ones.
    pub fn replace(&self, r: &mut Recorder, map: &Var) -> Result<Var> {
        let [b, h, w, d] = map.data.dims("map of patches")?;
        if [h, w] != self.grid {
            let [rows, columns] = self.grid;
            return Err(Error::argument("map of patches", format!("{h}×{w}"), format!("{rows}×{columns}")));
        }
        let cells = reshape(r, map, &[b, h * w, d])?;
        let seen = gather(r, &cells, &self.visible, &self.inverse)?; // (B, V, D)
        let nowhere = Tensor::scratch("no positions", &[h * w, d]);
        nowhere.fill(r, 0.0)?;
        let all = restore(r, &seen, &self.token, &Var::constant(nowhere), &self.visible, &self.inverse)?;
        reshape(r, &all, &[b, h, w, d])
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

/// The places of [`FamilyFacts::drop_path`](crate::models::config::FamilyFacts::drop_path) where rates rise along a
/// line from block to block and all `branches` of a block share its rate. `name` makes (stage, block in the stage) the
/// block's name. A block without names of branches has one.
pub(super) fn drop_path_places(
    config: &Config, name: impl Fn(usize, usize) -> String, branches: &[&str],
) -> Vec<(String, f64)> {
    let Some(net) = &config.hierarchy else { return Vec::new() };
    let mut places = Vec::new();
    for ((stage, block), rate) in net.blocks().zip(config.drop_path_line(net.depth())) {
        let name = name(stage, block);
        match branches {
            [] => places.push((name, rate)),
            _ => places.extend(branches.iter().map(|branch| (format!("{name}.{branch}"), rate))),
        }
    }
    places
}

/// A block on maps, or on windows of maps, with `N` branches that a sample may drop.
pub(super) trait MapBlock<const N: usize>: Clone + 'static {
    /// What its parameters' names begin with.
    fn name(&self) -> Arc<str>;

    /// x (B, .., C) → (B, .., C'). `drop_path` has factors (B) for each branch.
    fn forward(&self, r: &mut Recorder, x: &Var, drop_path: [Option<&Tensor>; N]) -> Result<Var>;
}

/// Runs blocks in their order, and gives each its rows of DropPath's factors.
pub(super) struct BlockRunner<'a> {
    drop_path: Option<&'a Tensor>,
    /// The next row.
    row: usize,
}

impl<'a> BlockRunner<'a> {
    /// `drop_path` as in [`Encoder`].
    pub fn new(drop_path: Option<&'a Tensor>) -> Self {
        Self { drop_path, row: 0 }
    }

    /// x behind `blocks`. Each is a segment of its own, and behind each the cells of `hidden` patches are erased.
    pub fn run<const N: usize, T: MapBlock<N>>(
        &mut self, r: &mut Recorder, mut x: Var, blocks: &[T], hidden: Option<&Hidden>,
    ) -> Result<Var> {
        let samples = x.data.shape()[0]; // images, or windows of images
        for block in blocks {
            let mut factors = [const { None }; N];
            for factors in &mut factors {
                *factors = drop_path_row(self.drop_path, self.row, samples)?;
                self.row += 1;
            }
            let (name, block) = (block.name(), block.clone());
            let forward = move |r: &mut Recorder| block.forward(r, &x, factors.each_ref().map(Option::as_ref));
            [x] = r.segment(move |r| r.scope(&name, |r| Ok([forward(r)?])))?;
            if let Some(hidden) = hidden {
                x = hidden.erase(r, &x)?;
            }
        }
        Ok(x)
    }
}

/// A [`MapEncoder`] with the size of its images.
#[derive(Debug, Clone)]
pub struct OnMaps<T> {
    net: T,
    height: usize,
    width: usize,
    /// Rows and columns of the patches that pretraining hides.
    grid: [usize; 2],
}

impl<T: MapEncoder> OnMaps<T> {
    /// `net` for the images of `config`.
    pub fn new(net: T, config: &Config) -> Self {
        let width = config.image_width.unwrap_or(config.image_size);
        Self { net, height: config.image_size, width, grid: [config.grid(), config.grid_columns()] }
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
        self.net.stages(r, &image, None, drop_path)
    }

    fn masked_pyramid(
        &self, r: &mut Recorder, batch: &MaskedBatch, token: &Var, drop_path: Option<&Tensor>,
    ) -> Result<Vec<Var>> {
        let hidden = Hidden {
            visible: batch.visible.clone(),
            inverse: batch.inverse.clone(),
            grid: self.grid,
            token: token.clone(),
        };
        let image = Var::constant(to_map(r, &batch.patches, Some(&batch.inverse), self.grid)?);
        let mut maps = self.net.stages(r, &image, Some(&hidden), drop_path)?;
        if let Some(last) = maps.pop() {
            maps.push(self.net.last(r, &last)?);
        }
        Ok(maps)
    }
}

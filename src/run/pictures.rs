//! Pictures of reconstructions, of images and of point clouds.

use std::borrow::Cow;
use std::f64::consts::PI;

use super::record::grid::{Panel, PictureGrid};
use crate::data::points::picture::{Drawn, MADE, SEEN, draw};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::infer::reconstruct::Reconstructor;
use crate::infer::reconstruct_clouds::{CloudReconstructor, RebuiltCloud, patch_points};
use crate::models::{Config, Pretext};
use crate::nn::Weights;
use crate::train::pretrain::mask::PatchMask;

/// Side of a picture of a cloud, in pixels.
const SIDE: usize = 192;

/// Two sides of a cloud, in radians about its y axis.
const TURNS: [f64; 2] = [PI / 6.0, PI / 6.0 + PI / 2.0];

/// Reconstructs a batch of images or clouds.
#[derive(Debug)]
pub struct Painter {
    config: Config,
    of: Of,
}

#[derive(Debug)]
enum Of {
    Images(Box<Reconstructor>),
    Clouds(Box<CloudReconstructor>),
}

/// What was made of a batch.
#[derive(Debug)]
pub struct Painting {
    /// A row each: an image, what is visible of it, its reconstruction; the same of a cloud, from two sides.
    pub grid: PictureGrid,
    /// The loss of the method.
    pub loss: f32,
    /// What the pictures are made of (see `rowscan reconstruct --tensors`).
    pub tensors: Weights,
}

impl Painter {
    /// Records the forward pass of `model` for `batch` samples with `visible` patches each.
    ///
    /// # Errors
    /// A model that predicts no patches.
    pub fn new(g: &Gpu, model: &dyn Pretext, config: &Config, batch: usize, visible: usize) -> Result<Self> {
        let of = match config.family.clouds {
            true => Of::Clouds(Box::new(CloudReconstructor::new(g, model, config, batch, visible)?)),
            false => Of::Images(Box::new(Reconstructor::new(g, model, config, batch, visible)?)),
        };
        Ok(Self { config: config.clone(), of })
    }

    /// What a batch holds, as bytes, and its mask → pictures.
    pub fn run(&self, bytes: &[u8], mask: &PatchMask) -> Result<Painting> {
        match &self.of {
            Of::Images(reconstructor) => self.images(reconstructor, bytes, mask),
            Of::Clouds(reconstructor) => self.clouds(reconstructor, bytes, mask),
        }
    }

    fn images(&self, reconstructor: &Reconstructor, bytes: &[u8], mask: &PatchMask) -> Result<Painting> {
        let (pictures, loss) = pollster::block_on(reconstructor.run(bytes, mask))?;
        let (side, tokens) = (self.config.image_size, self.config.tokens());
        let mut grid = PictureGrid::new(side, side, columns(&self.config))?;
        for p in &pictures {
            grid.push_row(&[Panel::Rgb8(&p.original), Panel::Rgb8(&p.masked), Panel::Rgb8(&p.reconstruction)])?;
        }
        let pixels = bytes.iter().map(|&byte| f32::from(byte)).collect();
        let predictions = pictures.iter().flat_map(|p| p.predicted.iter().copied()).collect();
        let count = pictures.len();
        let tensors = Weights::from([
            ("images".to_string(), (vec![count, side, side, 3], pixels)),
            ("mask".into(), (vec![count, tokens], reconstructor.predicted(mask))),
            ("predictions".into(), (vec![count, tokens, self.config.patch_len()], predictions)),
        ]);
        Ok(Painting { grid, loss, tensors })
    }

    fn clouds(&self, reconstructor: &CloudReconstructor, bytes: &[u8], mask: &PatchMask) -> Result<Painting> {
        let (clouds, loss) = pollster::block_on(reconstructor.run(bytes, mask))?;
        let mut grid = PictureGrid::new(SIDE, SIDE, columns(&self.config))?;
        for cloud in &clouds {
            let panels: Vec<Vec<u8>> = TURNS.into_iter().flat_map(|turn| panels(cloud, turn)).collect();
            grid.push_row(&panels.iter().map(|panel| Panel::Rgb8(panel)).collect::<Vec<_>>())?;
        }
        let of = |points: fn(&RebuiltCloud) -> &Vec<[f32; 3]>| {
            let shape = vec![clouds.len(), clouds.first().map_or(0, |cloud| points(cloud).len()), 3];
            (shape, clouds.iter().flat_map(|cloud| points(cloud).as_flattened().iter().copied()).collect::<Vec<f32>>())
        };
        let tensors = Weights::from([
            ("clouds".to_string(), of(|cloud| &cloud.original)),
            ("mask".into(), (vec![clouds.len(), self.config.tokens()], mask.mask.clone())),
            ("visible".into(), of(|cloud| &cloud.visible)),
            ("predictions".into(), of(|cloud| &cloud.rebuilt)),
        ]);
        Ok(Painting { grid, loss, tensors })
    }
}

/// Pictures in a row of a grid: an original, what is visible of it and what was made of it, from each side.
pub fn columns(config: &Config) -> usize {
    if config.family.clouds { 3 * TURNS.len() } else { 3 }
}

/// Side of the pictures of [`seen`].
pub fn seen_side(config: &Config) -> usize {
    if config.family.clouds { SIDE } else { config.image_size }
}

/// What a model reads of one sample → a picture of it, side × side × 3; nothing of nothing.
pub fn seen<'a>(config: &Config, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    match &config.points {
        Some(sizes) if !bytes.is_empty() => {
            let points = patch_points(&bytemuck::pod_collect_to_vec::<u8, f32>(bytes), sizes.group_size);
            Cow::Owned(draw(&[Drawn { points: &points, colour: SEEN }], TURNS[0], SIDE))
        }
        _ => Cow::Borrowed(bytes),
    }
}

/// A cloud, what is visible of it, and this with what was rebuilt.
fn panels(cloud: &RebuiltCloud, turn: f64) -> [Vec<u8>; 3] {
    let (original, visible) =
        (Drawn { points: &cloud.original, colour: SEEN }, Drawn { points: &cloud.visible, colour: SEEN });
    let rebuilt = Drawn { points: &cloud.rebuilt, colour: MADE };
    [draw(&[original], turn, SIDE), draw(&[visible], turn, SIDE), draw(&[visible, rebuilt], turn, SIDE)]
}

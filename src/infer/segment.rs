//! The classes of the pixels of images of any size, by windows of the size that a network was trained on.

use super::program::InferenceProgram;
use super::sliding_window::{ScoreMap, merged, windows};
use crate::data::imagenet::MEAN;
use crate::data::{Rgb8, SceneView, resized};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{Config, Segmenter};
use crate::ops::reshape::reshape;

/// Windows of an image that are scored at a time: as many as one of 3 × 4 has. An image with fewer is padded with
/// windows that nobody reads.
pub const WINDOWS: usize = 2;

/// A forward program from windows to the scores of their cells, (B, 4h·4w·K).
pub fn window_scores(g: &Gpu, model: &Segmenter, config: &Config, batch: usize) -> Result<InferenceProgram> {
    let model = model.clone();
    InferenceProgram::new(g, config, batch, move |r, patches| {
        let logits = model.forward(r, patches, None, [None; 2])?.logits;
        let b = logits.data.shape()[0];
        reshape(r, &logits, &[b, logits.data.len() / b])
    })
}

/// The scores of the classes of each pixel of an image.
///
/// Its shorter side is resized to a window. Windows of the network's size lie two thirds of their side apart, the last
/// ones at the border; where several cover a pixel, their mean counts. An image with a side that is less than a
/// window's is padded, and what is padded does not count.
///
/// - mmsegmentation: `slide_inference`, before the softmax.
///
/// # Errors
/// A program of another network than `config`.
pub async fn pixel_scores(forward: &InferenceProgram, config: &Config, image: &Rgb8) -> Result<ScoreMap> {
    let (side, classes) = (config.image_size, config.classes);
    let before = [image.height as usize, image.width as usize];
    let size = SceneView::new(side as u32).scaled(before, 1.0);
    let padded = size.map(|n| n.max(side));
    let pixels = resized(&image.pixels, before, size);
    let mean = MEAN.map(|v| (255.0 * v).round() as u8); // 0 once it is normalized
    let stride = (side * 2 / 3).max(1);
    let places = windows(padded, [side; 2], [stride; 2])?;
    let window = |[top, left, _, _]: &[usize; 4]| {
        let (top, left) = (*top, *left);
        let cell = move |i: usize| (top + i / side, left + i % side);
        let color = |(row, col): (usize, usize)| match row < size[0] && col < size[1] {
            true => std::array::from_fn(|c| pixels[3 * (row * size[1] + col) + c]),
            false => mean,
        };
        (0..side * side).flat_map(|i| color(cell(i))).collect::<Vec<u8>>()
    };
    let mut maps = Vec::new();
    for places in places.chunks(forward.batch()) {
        let images: Vec<u8> = places.iter().flat_map(window).collect();
        let rows = forward.run(&images).await?;
        for row in rows.chunks(forward.width()) {
            let cells = (row.len() / classes.max(1)).isqrt();
            maps.push(ScoreMap::new([cells; 2], classes, row.to_vec())?);
        }
    }
    if maps.len() != places.len() {
        return Err(Error::Internal(format!("{} maps of {} windows", maps.len(), places.len())));
    }
    merged(padded, &places, &maps)?.cut(size)?.resized(before)
}

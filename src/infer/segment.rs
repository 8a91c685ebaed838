//! The classes of the pixels of images of any size, by windows of the size that a network was trained on.

use super::program::InferenceProgram;
use super::sliding_window::{ScoreMap, merged, taps, windows};
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

/// The scores of the classes of each pixel of an image, from a map of another size, one row at a time. All rows at once
/// would take 7 GB for 150 classes and 12 million pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRows {
    map: ScoreMap,
    size: [usize; 2],
}

impl ScoreRows {
    /// The scores of an image of `size`, rows and columns: `map` resized to it, bit for bit as [`ScoreMap::resized`]
    /// does.
    ///
    /// # Errors
    /// A size without pixels.
    pub fn new(map: ScoreMap, size: [usize; 2]) -> Result<Self> {
        if size.contains(&0) {
            return Err(Error::argument("pixels of an image", format!("{} × {}", size[0], size[1]), "at least 1"));
        }
        Ok(Self { map, size })
    }

    /// Calls `then` with the scores of each row of pixels, from the top.
    pub fn each(&self, mut then: impl FnMut(&ScoreMap)) {
        let ([from_rows, from_columns], [rows, columns], c) = (self.map.size, self.size, self.map.channels);
        let mix = |a: f32, b: f32, share: f32| a * (1.0 - share) + b * share;
        let across: Vec<_> = (0..columns).map(|at| taps(at, from_columns, columns)).collect();
        let widen = |row: usize, wide: &mut Vec<f32>| {
            let cells = &self.map.values[row * from_columns * c..][..from_columns * c];
            wide.clear();
            for ([left, right], share) in &across {
                let (left, right) = (&cells[left * c..][..c], &cells[right * c..][..c]);
                wide.extend(left.iter().zip(right).map(|(left, right)| mix(*left, *right, *share)));
            }
        };
        // most rows of pixels lie between the same two of the map as the row above
        let (mut between, mut above, mut below) = ([usize::MAX; 2], Vec::new(), Vec::new());
        let mut row = ScoreMap { size: [1, columns], channels: c, values: Vec::with_capacity(columns * c) };
        for at in 0..rows {
            let (two, share) = taps(at, from_rows, rows);
            if between != two {
                widen(two[0], &mut above);
                widen(two[1], &mut below);
                between = two;
            }
            row.values.clear();
            row.values.extend(above.iter().zip(&below).map(|(above, below)| mix(*above, *below, share)));
            then(&row);
        }
    }

    /// The class with the highest score of each pixel, row by row; of equal ones the first.
    pub fn best(&self) -> Vec<u16> {
        let mut best = Vec::with_capacity(self.size[0] * self.size[1]);
        self.each(|row| best.extend(row.best()));
        best
    }
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
pub async fn pixel_scores(forward: &InferenceProgram, config: &Config, image: &Rgb8) -> Result<ScoreRows> {
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
    ScoreRows::new(merged(padded, &places, &maps)?.cut(size)?, before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_bits_of_the_whole_map() {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        for (from, to, classes) in
            [([1, 1], [3, 2], 1), ([5, 7], [31, 18], 3), ([9, 4], [4, 9], 2), ([6, 6], [6, 6], 4), ([3, 5], [1, 40], 2)]
        {
            let value = |i: usize| match i % 13 {
                4 => 0.5, // equal scores
                7 => f32::INFINITY,
                9 => -0.0,
                _ => ((i * 7919 % 1009) as f32 - 500.0).sin() * 20.0,
            };
            let values = (0..from[0] * from[1] * classes).map(value).collect();
            let map = ScoreMap::new(from, classes, values).unwrap();
            let (whole, rows) = (map.resized(to).unwrap(), ScoreRows::new(map, to).unwrap());
            let (mut found, mut most) = (Vec::new(), 0);
            rows.each(|row| {
                most = most.max(row.values.len());
                found.extend(bits(&row.values));
            });
            assert_eq!(found, bits(&whole.values), "{from:?} to {to:?}");
            assert_eq!((rows.best(), most), (whole.best(), to[1] * classes), "{from:?} to {to:?}");
        }
        assert!(ScoreRows::new(ScoreMap::new([1, 1], 1, vec![0.0]).unwrap(), [0, 3]).is_err());
    }
}

//! What a segmentation network sees of an image in training: mmsegmentation's pipeline for ADE20K, with its numbers in
//! proportion to the side of the crop.

use serde::{Deserialize, Serialize};

use super::photometric::distort;
use crate::data::imagenet::MEAN;
use crate::data::sample::{Rgb8, SegmentationMap};
use crate::data::stream::Stream;
use crate::error::DataError;

/// Draws of a crop until it has more than one class, none of which fills three quarters.
const DRAWS: usize = 10;
/// The share of labeled pixels that one class of a crop stays below.
const MOST: f64 = 0.75;
/// The label of ignored pixels in a batch.
const IGNORED: u8 = 255;

/// A random crop of an image and of its map: `size`² pixels of three bytes, then `size`² labels of one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SceneView {
    /// Side of the crop in pixels.
    pub size: u32,
    /// The shorter side of the image over that of the crop, lowest and highest.
    pub scale: (f64, f64),
    /// Probability of a mirror image.
    pub hflip: f64,
    /// Whether brightness, contrast, saturation and hue change.
    pub photometric: bool,
}

impl SceneView {
    /// The published settings.
    pub fn new(size: u32) -> Self {
        Self { size, scale: (0.5, 2.0), hflip: 0.5, photometric: true }
    }

    /// Bytes of a view.
    pub fn bytes(&self) -> usize {
        4 * self.size as usize * self.size as usize
    }

    /// # Errors
    /// A size, a scale or a probability out of range.
    pub fn check(&self) -> Result<(), DataError> {
        if !(1..=4096).contains(&self.size) {
            return Err(DataError::setting("image size", self.size, "1 to 4096 pixels"));
        }
        let (low, high) = self.scale;
        if !(low > 0.0 && low <= high && high <= 16.0) {
            return Err(DataError::setting("scale", format!("{low},{high}"), "0 < lowest ≤ highest ≤ 16"));
        }
        if !(0.0..=1.0).contains(&self.hflip) {
            return Err(DataError::setting("hflip", self.hflip, "0 to 1"));
        }
        Ok(())
    }

    /// Rows and columns of an image of this size whose shorter side is `ratio` crops, and whose longer side is at most
    /// four times that.
    pub fn scaled(&self, [rows, cols]: [usize; 2], ratio: f64) -> [usize; 2] {
        let side = f64::from(self.size);
        let (long, short) = ((4.0 * side * ratio).floor(), (side * ratio).floor());
        let (more, less) = (rows.max(cols) as f64, rows.min(cols) as f64);
        let factor = (long / more).min(short / less);
        [rows, cols].map(|n| ((n as f64 * factor + 0.5) as usize).max(1))
    }

    /// Writes a view to `out`. Random choices come from `s`.
    ///
    /// # Errors
    /// A class above 254, an `out` of another length.
    pub fn apply(&self, image: &Rgb8, map: &SegmentationMap, s: &mut Stream, out: &mut [u8]) -> Result<(), DataError> {
        let side = self.size as usize;
        if out.len() != self.bytes() {
            return Err(DataError::setting("bytes of a view", out.len(), self.bytes().to_string()));
        }
        if let Some(class) = map.classes.iter().find(|class| (255..SegmentationMap::IGNORED).contains(*class)) {
            return Err(DataError::setting("a class of a pixel", class, "0 to 254"));
        }
        let before = [image.height as usize, image.width as usize];
        let ratio = s.range(self.scale.0, self.scale.1);
        let size = self.scaled(before, ratio);
        let (pixels, labels) = (resized(&image.pixels, before, size), nearest(&map.classes, before, size));
        let room = size.map(|n| n.saturating_sub(side));
        let mut place = [0; 2];
        for _ in 0..DRAWS {
            place = room.map(|room| s.below(room as u64 + 1) as usize);
            if is_mixed(&labels, size, place, side) {
                break;
            }
        }
        let flip = s.chance(self.hflip);
        let (colors, classes) = out.split_at_mut(3 * side * side);
        let inside = size.map(|n| n.min(side));
        let mut cut = Vec::with_capacity(3 * inside[0] * inside[1]);
        for row in 0..inside[0] {
            let at = ((row + place[0]) * size[1] + place[1]) * 3;
            cut.extend_from_slice(&pixels[at..at + 3 * inside[1]]);
        }
        if self.photometric {
            distort(&mut cut, s);
        }
        let mean = MEAN.map(|v| (255.0 * v).round() as u8); // 0 once it is normalized
        for (i, (color, class)) in colors.as_chunks_mut::<3>().0.iter_mut().zip(classes).enumerate() {
            let (row, col) = (i / side, i % side);
            (*color, *class) = (mean, IGNORED);
            if row < inside[0] && col < inside[1] {
                let from = if flip { inside[1] - 1 - col } else { col };
                color.copy_from_slice(&cut[3 * (row * inside[1] + from)..][..3]);
                let label = labels[(row + place[0]) * size[1] + place[1] + from];
                *class = u8::try_from(label).unwrap_or(IGNORED);
            }
        }
        Ok(())
    }
}

/// Whether a crop has two classes or more, none of which has three quarters of the labeled pixels.
fn is_mixed(labels: &[u16], [rows, cols]: [usize; 2], [top, left]: [usize; 2], side: usize) -> bool {
    let mut counts = [0u32; 256];
    for row in top..(top + side).min(rows) {
        let line = &labels[row * cols + left..row * cols + (left + side).min(cols)];
        line.iter().filter(|label| **label < 255).for_each(|label| counts[usize::from(*label)] += 1);
    }
    let (all, most) = (counts.iter().sum::<u32>(), counts.iter().max().copied().unwrap_or(0));
    counts.iter().filter(|count| **count > 0).count() > 1 && f64::from(most) < MOST * f64::from(all)
}

/// An image (rows, cols, 3) in another size, between pixels and without antialiasing: OpenCV's `INTER_LINEAR`.
pub fn resized(pixels: &[u8], from: [usize; 2], to: [usize; 2]) -> Vec<u8> {
    if from == to {
        return pixels.to_vec();
    }
    let taps = [0, 1].map(|axis| {
        let place = |at: usize| {
            let place =
                ((at as f64 + 0.5) * from[axis] as f64 / to[axis] as f64 - 0.5).clamp(0.0, from[axis] as f64 - 1.0);
            let first = place as usize;
            (first, (first + 1).min(from[axis] - 1), (place - first as f64) as f32)
        };
        (0..to[axis]).map(place).collect::<Vec<_>>()
    });
    let mut out = Vec::with_capacity(3 * to[0] * to[1]);
    for (above, below, down) in &taps[0] {
        for (left, right, across) in &taps[1] {
            for c in 0..3 {
                let at = |y: &usize, x: &usize| f32::from(pixels[3 * (y * from[1] + x) + c]);
                let line = |y: &usize| at(y, left) + across * (at(y, right) - at(y, left));
                out.push((line(above) + down * (line(below) - line(above)) + 0.5) as u8);
            }
        }
    }
    out
}

/// A map in another size: each pixel has the class of one pixel, OpenCV's `INTER_NEAREST`.
fn nearest(classes: &[u16], from: [usize; 2], to: [usize; 2]) -> Vec<u16> {
    let at = |i: usize, axis: usize| i * from[axis] / to[axis];
    (0..to[0] * to[1]).map(|i| classes[at(i / to[1], 0) * from[1] + at(i % to[1], 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::stream::StreamPurpose;

    /// Columns of the image are the class and the red of their pixels.
    fn scene(width: u32, height: u32) -> (Rgb8, SegmentationMap) {
        let classes: Vec<u16> = (0..width * height).map(|i| (i % width) as u16).collect();
        let pixels = classes.iter().flat_map(|class| [*class as u8, 7, 9]).collect();
        (Rgb8 { width, height, pixels }, SegmentationMap { width, height, classes })
    }

    fn view(view: SceneView, image: &Rgb8, map: &SegmentationMap, i: u64) -> Vec<u8> {
        let mut out = vec![1; view.bytes()];
        view.apply(image, map, &mut Stream::new(StreamPurpose::Augment, [1, 2, i]), &mut out).unwrap();
        out
    }

    #[test]
    fn labels_stay_on_their_pixels() {
        let (image, map) = scene(40, 30);
        let plain = SceneView { scale: (1.0, 1.0), photometric: false, ..SceneView::new(30) };
        let mut seen = [0; 2];
        for i in 0..20 {
            let out = view(plain, &image, &map, i);
            let (colors, labels) = out.split_at(3 * 900);
            assert!(colors.chunks(3).zip(labels).all(|(color, label)| color[0] == *label));
            seen[usize::from(labels[0] > labels[1])] += 1;
            assert_eq!(out, view(plain, &image, &map, i));
        }
        assert!(seen[0] > 3 && seen[1] > 3, "{seen:?}"); // as it is, and mirrored
    }

    #[test]
    fn small_images_are_padded_with_what_does_not_count() {
        let (image, map) = scene(20, 10);
        let small = SceneView { scale: (0.5, 0.5), hflip: 0.0, photometric: false, ..SceneView::new(40) };
        assert_eq!(small.scaled([10, 20], 0.5), [20, 40]);
        let out = view(small, &image, &map, 3);
        let labels = &out[3 * 1600..];
        assert!(labels[..800].iter().all(|label| *label < 20) && labels[800..].iter().all(|label| *label == 255));
        assert_eq!(out[3 * 1599..3 * 1600], [124, 116, 104]);
    }

    #[test]
    fn long_images_are_not_enlarged_beyond_four_crops() {
        assert_eq!(SceneView::new(512).scaled([512, 683], 1.0), [512, 683]);
        assert_eq!(SceneView::new(512).scaled([100, 1000], 1.0), [205, 2048]);
        assert_eq!(SceneView::new(512).scaled([1, 9000], 0.5), [1, 1024]);
    }

    #[test]
    fn resizing_is_between_pixels() {
        let row = [0, 0, 0, 100, 100, 100];
        let red: Vec<u8> = resized(&row, [1, 2], [1, 4]).chunks(3).map(|p| p[0]).collect();
        assert_eq!(red, [0, 25, 75, 100]);
        assert_eq!(nearest(&[5, 6], [1, 2], [2, 4]), [5, 5, 6, 6, 5, 5, 6, 6]);
    }

    #[test]
    fn crops_of_one_class_are_drawn_again() {
        let classes: Vec<u16> = (0..64 * 64).map(|i| u16::from(i % 64 >= 56)).collect();
        let map = SegmentationMap { width: 64, height: 64, classes };
        let image = Rgb8 { width: 64, height: 64, pixels: vec![50; 64 * 64 * 3] };
        let crop = SceneView { scale: (4.0, 4.0), photometric: false, ..SceneView::new(16) };
        let mixed = (0..40).filter(|i| {
            let labels = view(crop, &image, &map, *i);
            let of = |class| labels[768..].iter().filter(|label| **label == class).count();
            of(0) > 64 && of(1) > 64
        });
        assert!(mixed.count() > 15); // a tenth of all places
    }

    #[test]
    fn what_cannot_be_is_named() {
        let error = |view: SceneView| view.check().unwrap_err().to_string();
        assert!(error(SceneView::new(0)).contains("image size"));
        assert!(error(SceneView { scale: (2.0, 1.0), ..SceneView::new(8) }).contains("scale"));
        assert!(error(SceneView { hflip: 2.0, ..SceneView::new(8) }).contains("hflip"));
        let (image, mut map) = scene(4, 4);
        map.classes[0] = 300;
        let mut out = vec![0; 256];
        let mut s = Stream::new(StreamPurpose::Augment, [0; 3]);
        let e = SceneView::new(8).apply(&image, &map, &mut s, &mut out).unwrap_err().to_string();
        assert!(e.contains("300"), "{e}");
    }
}

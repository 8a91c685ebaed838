//! Which part of an image is kept, and how it is resized: torchvision's `RandomResizedCrop`, `Resize` and `CenterCrop`.
use crate::data::sample::Rgb8;
use crate::data::stream::Stream;
use crate::models::{Interpolation, TestView};
use fast_image_resize::images::TypedImage;
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

/// A box in pixels of the source: T is u32 for whole pixels, or f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Crop<T> {
    left: T,
    top: T,
    width: T,
    height: T,
}

/// The box of `RandomResizedCrop`: up to ten draws of an area (`scale`) and an aspect (`ratio`) until a box fits. If
/// none does, the largest centered box of an allowed aspect.
pub(crate) fn random_crop(width: u32, height: u32, scale: (f64, f64), ratio: (f64, f64), s: &mut Stream) -> Crop<u32> {
    let (full_width, full_height) = (f64::from(width), f64::from(height));
    let mut found = None;
    for _ in 0..10 {
        let area = full_width * full_height * s.range(scale.0, scale.1);
        let aspect = s.range(ratio.0.ln(), ratio.1.ln()).exp();
        let (w, h) = ((area * aspect).sqrt().round(), (area / aspect).sqrt().round());
        if (1.0..=full_width).contains(&w) && (1.0..=full_height).contains(&h) {
            let top = s.below((full_height - h) as u64 + 1) as f64;
            let left = s.below((full_width - w) as u64 + 1) as f64;
            found = Some((left, top, w, h));
            break;
        }
    }
    let (left, top, width, height) = found.unwrap_or_else(|| {
        let aspect = full_width / full_height;
        let w = if aspect > ratio.1 { (full_height * ratio.1).round().clamp(1.0, full_width) } else { full_width };
        let h = if aspect < ratio.0 { (full_width / ratio.0).round().clamp(1.0, full_height) } else { full_height };
        (((full_width - w) / 2.0).floor(), ((full_height - h) / 2.0).floor(), w, h)
    });
    let [left, top, width, height] = [left, top, width, height].map(|v| v as u32);
    Crop { left, top, width, height }
}

/// The box of the source that `Resize(⌊size / crop_ratio⌋)` and `CenterCrop(size)` would keep. A view that squashes
/// keeps the same share of both sides.
pub(crate) fn center_crop(width: u32, height: u32, size: u32, view: TestView) -> Crop<f64> {
    let (full_width, full_height) = (f64::from(width), f64::from(height));
    let short = full_width.min(full_height);
    let resized = (f64::from(size) / view.crop_ratio + 1e-6).floor();
    // torchvision rounds the size after the resize, and the offset of the crop, to whole pixels. The same rounding here
    // keeps the same box, although there is only one step.
    let side = |full: f64| {
        let after = if view.squash { resized } else { (resized * full / short + 1e-6).floor() };
        let offset = ((after - f64::from(size)) / 2.0).round_ties_even();
        (offset * full / after, f64::from(size) * full / after)
    };
    let ((left, width), (top, height)) = (side(full_width), side(full_height));
    Crop { left, top, width, height }
}

/// Resizes to `size` × `size` × 3 bytes with antialiasing: bicubic (a = −½) or bilinear. Keeps its buffers between
/// calls.
#[derive(Default)]
pub(crate) struct Scaler(Resizer);

impl Scaler {
    /// Resizes a box as if the image ended at its border, as `RandomResizedCrop` does, which crops first.
    pub fn inside(&mut self, image: &Rgb8, crop: Crop<u32>, size: u32, out: &mut [u8]) -> Result<(), String> {
        let pixels = cut(image, crop).ok_or("the box is not within the image")?;
        self.scale(pixels, [crop.width, crop.height], options(Interpolation::Bicubic), [size; 2], out)
    }

    /// Resizes a box as a part of the whole image: near its border the filter reads pixels beyond it. `Resize` and then
    /// `CenterCrop` does so too.
    pub fn across(
        &mut self, image: &Rgb8, crop: Crop<f64>, filter: Interpolation, size: u32, out: &mut [u8],
    ) -> Result<(), String> {
        let left = off_center(crop.left, crop.width, size);
        let options = options(filter).crop(left, crop.top, crop.width, crop.height);
        self.scale(image.pixels.clone(), [image.width, image.height], options, [size; 2], out)
    }

    /// The whole image in so many rows and columns: PIL's `resize` with `BILINEAR`.
    pub fn whole(&mut self, image: &Rgb8, [rows, cols]: [usize; 2]) -> Result<Vec<u8>, String> {
        let mut out = vec![0; 3 * rows * cols];
        let width = u32::try_from(cols).map_err(|e| e.to_string())?;
        let height = u32::try_from(rows).map_err(|e| e.to_string())?;
        let crop = Crop { left: 0.0, top: 0.0, width: f64::from(image.width), height: f64::from(image.height) };
        let left = off_center(crop.left, crop.width, width);
        let options = options(Interpolation::Bilinear).crop(left, crop.top, crop.width, crop.height);
        self.scale(image.pixels.clone(), [image.width, image.height], options, [width, height], &mut out)?;
        Ok(out)
    }

    /// The resizer's code is compiled here, for each kind of pixel and of view that it may meet, a million lines of
    /// LLVM if nothing says which. Hence one kind: copied bytes, as its own intermediate images are and the result is.
    fn scale(
        &mut self, mut pixels: Vec<u8>, [width, height]: [u32; 2], options: ResizeOptions, to: [u32; 2], out: &mut [u8],
    ) -> Result<(), String> {
        let source = TypedImage::<U8x3>::from_buffer(width, height, &mut pixels).map_err(|e| e.to_string())?;
        let mut result = TypedImage::<U8x3>::from_buffer(to[0], to[1], out).map_err(|e| e.to_string())?;
        self.0.resize_typed(&source, &mut result, &options).map_err(|e| e.to_string())
    }
}

/// The left border, or a hundred-millionth of a pixel beside it. Where it enlarges and the first or last column of the
/// result lies on the middle of a source pixel, weights of exactly 0 make fast_image_resize 6.1 take that column's
/// pixels for the outermost ones that any column needs, and it reads beyond its memory. So small a weight rounds to 0
/// all the same.
fn off_center(left: f64, width: f64, size: u32) -> f64 {
    let step = width / f64::from(size);
    let on_middle = |x: f64| (x - 0.5 - (x - 0.5).round()).abs() < 1e-9;
    let on_one = on_middle(left + 0.5 * step) || on_middle(left + width - 0.5 * step);
    if step < 1.0 && on_one { left - 1e-8 } else { left }
}

/// The bytes of a box.
fn cut(image: &Rgb8, crop: Crop<u32>) -> Option<Vec<u8>> {
    let [stride, left, top, width, height] =
        [image.width, crop.left, crop.top, crop.width, crop.height].map(|v| v as usize);
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in top..top + height {
        let row = image.pixels.get(y * stride * 3..(y + 1) * stride * 3)?;
        pixels.extend_from_slice(row.get(left * 3..(left + width) * 3)?);
    }
    Some(pixels)
}

fn options(filter: Interpolation) -> ResizeOptions {
    let filter = match filter {
        Interpolation::Bicubic => FilterType::CatmullRom,
        Interpolation::Bilinear => FilterType::Bilinear,
    };
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false)
}

/// Mirrors an image: reverses the pixels of each row.
pub(crate) fn mirror(pixels: &mut [u8], width: usize) {
    for row in pixels.chunks_exact_mut(width * 3) {
        let (left, right) = row.split_at_mut(width / 2 * 3);
        for (a, b) in left.chunks_exact_mut(3).zip(right.rchunks_exact_mut(3)) {
            a.swap_with_slice(b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::stream::StreamPurpose;

    fn stream(sample: u64) -> Stream {
        Stream::new(StreamPurpose::Augment, [1, 2, sample])
    }

    #[test]
    fn random_crops_follow_their_bounds() {
        let (mut area, mut log_aspect) = (0.0, 0.0);
        let n = 4000;
        for i in 0..n {
            let c = random_crop(500, 400, (0.2, 1.0), (0.75, 4.0 / 3.0), &mut stream(i));
            assert!(c.left + c.width <= 500 && c.top + c.height <= 400, "{c:?}");
            let (w, h) = (f64::from(c.width), f64::from(c.height));
            let (share, aspect) = (w * h / 200_000.0, w / h);
            assert!((0.19..=1.0).contains(&share) && (0.74..1.35).contains(&aspect), "{c:?}");
            area += share / n as f64;
            log_aspect += aspect.ln() / n as f64;
        }
        // An independent simulation of 200 000 crops gives 0.5155 and 0.0339 (boxes that do not fit are redrawn); the
        // standard errors here are 0.003 and 0.003.
        assert!((area - 0.5155).abs() < 0.012 && (log_aspect - 0.0339).abs() < 0.012, "{area} {log_aspect}");
    }

    #[test]
    fn extreme_shapes_fall_back_to_a_centered_box() {
        for (width, height, box_width, box_height) in [(1000, 10, 13, 10), (10, 1000, 10, 13), (1, 1, 1, 1)] {
            let c = random_crop(width, height, (0.2, 1.0), (0.75, 4.0 / 3.0), &mut stream(0));
            assert_eq!((c.width, c.height), (box_width, box_height));
        }
    }

    #[test]
    fn center_crop_is_what_two_steps_give() {
        // 500 × 375: shorter side to 256 gives 341 × 256; the cut starts at (58, 16), as Python rounds 58.5 to even.
        let c = center_crop(500, 375, 224, TestView::crop(0.875));
        assert_eq!((c.left, c.top), (58.0 * 500.0 / 341.0, 16.0 * 375.0 / 256.0));
        assert_eq!((c.width, c.height), (224.0 * 500.0 / 341.0, 224.0 * 375.0 / 256.0));
        let whole = center_crop(32, 32, 32, TestView::crop(1.0));
        assert_eq!((whole.left, whole.top, whole.width, whole.height), (0.0, 0.0, 32.0, 32.0));
        // both sides to 256, of which the middle 224 stay
        let squashed = center_crop(512, 256, 224, TestView { squash: true, ..TestView::default() });
        let got = (squashed.left, squashed.top, squashed.width, squashed.height);
        assert_eq!(got, (32.0, 16.0, 448.0, 224.0));
    }

    /// Twice the size: bilinear weighs the two neighbors of a pixel with 3/4 and 1/4, bicubic overshoots at an edge.
    #[test]
    fn filters_differ_at_an_edge() {
        let pixels = (0..64).flat_map(|i| [if i % 8 < 4 { 0 } else { 200 }; 3]).collect();
        let image = Rgb8 { width: 8, height: 8, pixels };
        let row = |filter| {
            let mut out = vec![0; 16 * 16 * 3];
            let whole = Crop { left: 0.0, top: 0.0, width: 8.0, height: 8.0 };
            Scaler::default().across(&image, whole, filter, 16, &mut out).unwrap();
            (6..10).map(|x| out[(8 * 16 + x) * 3]).collect::<Vec<u8>>()
        };
        assert_eq!(row(Interpolation::Bilinear), [0, 50, 150, 200]);
        let cubic = row(Interpolation::Bicubic);
        assert!(cubic[0] == 0 && cubic[3] > 200, "{cubic:?}");
    }

    #[test]
    fn a_crop_ends_at_its_border_when_it_is_cut_first() {
        // Black but for white outside the box: only a filter that reaches beyond can see it.
        let pixels = (0..32 * 32).flat_map(|i| [if i % 32 < 16 { 0 } else { 255 }; 3]).collect();
        let image = Rgb8 { width: 32, height: 32, pixels };
        let (mut scaler, mut out) = (Scaler::default(), [9; 8 * 8 * 3]);
        scaler.inside(&image, Crop { left: 0, top: 8, width: 16, height: 16 }, 8, &mut out).unwrap();
        assert_eq!(out, [0; 8 * 8 * 3]);
        scaler
            .across(
                &image,
                Crop { left: 0.0, top: 8.0, width: 16.0, height: 16.0 },
                Interpolation::Bicubic,
                8,
                &mut out,
            )
            .unwrap();
        assert!(out.iter().any(|&v| v > 0));
    }

    #[test]
    fn columns_on_the_middle_of_a_pixel_stay_within_memory() {
        // at 32 of 36, 13 pixels become 39, and column 0 of the result lies on the middle of a pixel
        for (width, height, size, crop_ratio) in [(13, 12, 32, 0.875), (12, 13, 32, 0.875), (15, 12, 15, 1.0)] {
            let mut pixels = vec![255; (width * height * 3) as usize];
            pixels.chunks_mut(3).for_each(|p| p[0] = 0);
            let image = Rgb8 { width, height, pixels };
            let (mut scaler, mut out) = (Scaler::default(), vec![9; (size * size * 3) as usize]);
            scaler
                .across(
                    &image,
                    center_crop(width, height, size, TestView::crop(crop_ratio)),
                    Interpolation::Bicubic,
                    size,
                    &mut out,
                )
                .unwrap();
            assert!(out.chunks(3).all(|p| p == [0, 255, 255]));
        }
    }

    #[test]
    fn mirror_reverses_rows() {
        for width in [1, 4, 5] {
            let image: Vec<u8> = (0..width as u8 * 6).collect();
            let mut flipped = image.clone();
            mirror(&mut flipped, width);
            for (row, original) in flipped.chunks(width * 3).zip(image.chunks(width * 3)) {
                assert!(row.chunks(3).eq(original.chunks(3).rev()), "{row:?}");
            }
        }
    }
}

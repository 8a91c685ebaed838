//! From a decoded image to the square the network sees: random crop and flip to train, centre crop to evaluate.
use super::{DataError, Rgb8};
use crate::train::rng::Stream;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// How an image becomes `size` × `size` RGB bytes. All resizing is bicubic (a = −½) with antialiasing, straight from the
/// source pixels of the crop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transform {
    /// A box of random area, aspect and place, then a mirror image with probability ½.
    RandomCrop {
        /// Side of the result in pixels.
        size: u32,
        /// Bounds of the area of the box as a share of the image; MAE takes (0.2, 1).
        scale: (f64, f64),
        /// Bounds of width / height of the box, drawn log-uniformly; usually (3/4, 4/3).
        ratio: (f64, f64),
    },
    /// Shorter side to ⌊size / crop_ratio⌋, then the middle.
    CentreCrop {
        /// Side of the result in pixels.
        size: u32,
        /// Share of the shorter side that is kept; usually 0.875.
        crop_ratio: f64,
    },
}

/// A box in source pixels and whether to mirror it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Crop {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    mirror: bool,
}

impl Transform {
    /// Random crops as for MAE: area (0.2, 1), aspect (3/4, 4/3), mirrored half of the time.
    pub fn train(size: u32) -> Self {
        Self::RandomCrop { size, scale: (0.2, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0) }
    }

    /// The middle after resizing the shorter side to size / 0.875.
    pub fn eval(size: u32) -> Self {
        Self::CentreCrop { size, crop_ratio: 0.875 }
    }

    /// Side of the result in pixels.
    pub fn size(&self) -> u32 {
        match *self {
            Self::RandomCrop { size, .. } | Self::CentreCrop { size, .. } => size,
        }
    }

    /// Refuses settings that cannot work.
    pub fn check(&self) -> Result<(), DataError> {
        let size = self.size();
        if !(1..=4096).contains(&size) {
            return Err(DataError::setting("image size", size, "1 to 4096 pixels"));
        }
        match *self {
            Self::RandomCrop { scale, ratio, .. } => {
                if !(scale.0 > 0.0 && scale.0 <= scale.1 && scale.1 <= 1.0) {
                    return Err(DataError::setting("crop scale", format!("{scale:?}"), "0 < low ≤ high ≤ 1"));
                }
                if !(ratio.0 > 0.0 && ratio.0 <= ratio.1 && ratio.1.is_finite()) {
                    return Err(DataError::setting("crop aspect", format!("{ratio:?}"), "0 < low ≤ high"));
                }
            }
            Self::CentreCrop { crop_ratio, .. } => {
                if !(crop_ratio > 0.0 && crop_ratio <= 1.0) {
                    return Err(DataError::setting("crop ratio", crop_ratio, "0 < ratio ≤ 1"));
                }
            }
        }
        Ok(())
    }

    /// Writes the `size` × `size` × 3 result to `out`, drawing from `s` (not at all for a centre crop).
    ///
    /// `resizer` only keeps scratch memory between calls.
    pub fn apply(&self, image: &Rgb8, s: &mut Stream, resizer: &mut Resizer, out: &mut [u8]) -> Result<(), DataError> {
        let crop = match *self {
            Self::RandomCrop { scale, ratio, .. } => random_crop(image.width, image.height, scale, ratio, s),
            Self::CentreCrop { size, crop_ratio } => centre_crop(image.width, image.height, size, crop_ratio),
        };
        resize(image, crop, self.size(), resizer, out)
            .map_err(|reason| DataError::setting("an image to resize", reason, "pixels that match its size"))?;
        if crop.mirror {
            mirror(out, self.size() as usize);
        }
        Ok(())
    }
}

/// Ten tries for a box of random area and aspect that fits; then the largest one of an allowed aspect, centred.
fn random_crop(width: u32, height: u32, scale: (f64, f64), ratio: (f64, f64), s: &mut Stream) -> Crop {
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
    Crop { left, top, width, height, mirror: s.unit() < 0.5 }
}

/// The box that resizing the shorter side to ⌊size / crop_ratio⌋ and cutting out the middle would keep.
fn centre_crop(width: u32, height: u32, size: u32, crop_ratio: f64) -> Crop {
    let (full_width, full_height) = (f64::from(width), f64::from(height));
    let short = full_width.min(full_height);
    let resized = (f64::from(size) / crop_ratio + 1e-6).floor();
    // Sides after the resize and offsets of the cut are whole pixels, as if there were two steps.
    let side = |full: f64| {
        let after = (resized * full / short + 1e-6).floor();
        let offset = ((after - f64::from(size)) / 2.0).round();
        (offset * full / after, f64::from(size) * full / after)
    };
    let ((left, width), (top, height)) = (side(full_width), side(full_height));
    Crop { left, top, width, height, mirror: false }
}

fn resize(image: &Rgb8, crop: Crop, size: u32, resizer: &mut Resizer, out: &mut [u8]) -> Result<(), String> {
    let source = ImageRef::new(image.width, image.height, &image.pixels, PixelType::U8x3).map_err(|e| e.to_string())?;
    let mut result = Image::from_slice_u8(size, size, out, PixelType::U8x3).map_err(|e| e.to_string())?;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .crop(crop.left, crop.top, crop.width, crop.height)
        .use_alpha(false);
    resizer.resize(&source, &mut result, &options).map_err(|e| e.to_string())
}

fn mirror(pixels: &mut [u8], width: usize) {
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
    use crate::train::rng::Purpose;

    fn stream(sample: u64) -> Stream {
        Stream::new(Purpose::Augment, [1, 2, sample])
    }

    fn apply(t: Transform, image: &Rgb8, sample: u64) -> Vec<u8> {
        let mut out = vec![0; (t.size() * t.size() * 3) as usize];
        t.apply(image, &mut stream(sample), &mut Resizer::new(), &mut out).unwrap();
        out
    }

    /// Red grows to the right, green downwards.
    fn ramp(width: u32, height: u32) -> Rgb8 {
        let at = |i: u32, n: u32| (i * 255 / (n - 1).max(1)) as u8;
        let rows = (0..height).flat_map(|y| (0..width).flat_map(move |x| [at(x, width), at(y, height), 9]));
        Rgb8 { width, height, pixels: rows.collect() }
    }

    #[test]
    fn random_crops_follow_their_bounds() {
        let (mut mirrored, mut area, mut log_aspect) = (0.0, 0.0, 0.0);
        let n = 4000;
        for i in 0..n {
            let c = random_crop(500, 400, (0.2, 1.0), (0.75, 4.0 / 3.0), &mut stream(i));
            assert!(c.left >= 0.0 && c.top >= 0.0 && c.left + c.width <= 500.0 && c.top + c.height <= 400.0, "{c:?}");
            let (share, aspect) = (c.width * c.height / 200_000.0, c.width / c.height);
            assert!((0.19..=1.0).contains(&share) && (0.74..1.35).contains(&aspect), "{c:?}");
            mirrored += f64::from(u8::from(c.mirror)) / n as f64;
            area += share / n as f64;
            log_aspect += aspect.ln() / n as f64;
        }
        // An independent simulation of 200 000 crops gives 0.5155 and 0.0339 (boxes that do not fit are redrawn); the
        // standard errors here are 0.003 and 0.003.
        assert!((0.47..0.53).contains(&mirrored), "{mirrored}");
        assert!((area - 0.5155).abs() < 0.012 && (log_aspect - 0.0339).abs() < 0.012, "{area} {log_aspect}");
    }

    #[test]
    fn extreme_shapes_fall_back_to_a_centred_box() {
        for (width, height, box_width, box_height) in [(1000, 10, 13.0, 10.0), (10, 1000, 10.0, 13.0), (1, 1, 1.0, 1.0)]
        {
            let c = random_crop(width, height, (0.2, 1.0), (0.75, 4.0 / 3.0), &mut stream(0));
            assert_eq!((c.width, c.height), (box_width, box_height));
            let out = apply(Transform::train(16), &ramp(width, height), 0);
            assert_eq!(out.len(), 16 * 16 * 3);
        }
    }

    #[test]
    fn centre_crop_is_what_two_steps_give() {
        // 500 × 375: shorter side to 256 gives 341 × 256; the cut starts at (59, 16) — 58.5 rounds up.
        let c = centre_crop(500, 375, 224, 0.875);
        assert_eq!((c.left, c.top), (59.0 * 500.0 / 341.0, 16.0 * 375.0 / 256.0));
        assert_eq!((c.width, c.height), (224.0 * 500.0 / 341.0, 224.0 * 375.0 / 256.0));
        let whole = centre_crop(32, 32, 32, 1.0);
        assert_eq!((whole.left, whole.top, whole.width, whole.height), (0.0, 0.0, 32.0, 32.0));
        let image = ramp(32, 32);
        let same = apply(Transform::CentreCrop { size: 32, crop_ratio: 1.0 }, &image, 0);
        assert_eq!(same, image.pixels);
        for (w, h) in [(1, 1), (1, 700), (700, 3), (33, 47)] {
            apply(Transform::eval(24), &ramp(w, h), 0);
        }
    }

    #[test]
    fn shrinking_averages_instead_of_skipping() {
        // A checkerboard of single pixels must become grey: without antialiasing it would alias to black and white.
        let pixels = (0..64 * 64).flat_map(|i| [if (i / 64 + i % 64) % 2 == 0 { 0 } else { 255 }; 3]).collect();
        let image = Rgb8 { width: 64, height: 64, pixels };
        let out = apply(Transform::CentreCrop { size: 8, crop_ratio: 1.0 }, &image, 0);
        assert!(out.iter().all(|&p| (120..136).contains(&p)), "{out:?}");
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

    #[test]
    fn bad_settings_are_named() {
        assert!(Transform::train(0).check().unwrap_err().to_string().starts_with("image size is 0"));
        let t = Transform::CentreCrop { size: 8, crop_ratio: 1.5 };
        assert!(t.check().unwrap_err().to_string().contains("1.5"));
        let t = Transform::RandomCrop { size: 8, scale: (0.5, 0.2), ratio: (1.0, 1.0) };
        assert!(t.check().unwrap_err().to_string().contains("crop scale"));
    }
}

//! Random erasing: noise in a random box (Zhong et al. 2017; timm's `RandomErasing(mode='pixel')`).
use crate::data::imagenet::{MEAN, STD};
use crate::data::stream::Stream;

/// Fills one box of `pixels` (side × side × 3) with noise. The box has 0.02 to ⅓ of the image's area, and a height /
/// width from 0.3 to 1 / 0.3, drawn log-uniformly. Nothing happens in the rare case that none of ten drawn boxes fits.
///
/// timm erases after normalization, with noise from N(0, 1). Pixels are bytes here, so the noise is what normalization
/// turns into N(0, 1): rounded to 1/58 of a deviation, and clamped to the range of a byte (−2.1 to 2.2 deviations for
/// red, up to 2.6 for blue).
pub fn erase(pixels: &mut [u8], side: usize, s: &mut Stream) {
    let Some([top, left, height, width]) = (0..10).find_map(|_| draw_box(side, s)) else { return };
    let mut spare = None;
    let mut normal = || {
        spare.take().unwrap_or_else(|| {
            let [now, later] = s.normal_pair();
            spare = Some(later);
            now
        })
    };
    for row in pixels.chunks_exact_mut(side * 3).skip(top).take(height) {
        for pixel in row[left * 3..(left + width) * 3].chunks_exact_mut(3) {
            for (v, (mean, std)) in pixel.iter_mut().zip(MEAN.iter().zip(&STD)) {
                *v = (255.0 * (f64::from(*mean) + f64::from(*std) * normal())).round() as u8;
            }
        }
    }
}

/// A random box as (top, left, height, width); `None` if it is not smaller than the image.
fn draw_box(side: usize, s: &mut Stream) -> Option<[usize; 4]> {
    let area = s.range(0.02, 1.0 / 3.0) * (side * side) as f64;
    let aspect = s.range(0.3_f64.ln(), (1.0 / 0.3_f64).ln()).exp();
    let [height, width] = [area * aspect, area / aspect].map(|v| v.sqrt().round() as usize);
    let mut offset = |length: usize| s.below((side - length) as u64 + 1) as usize;
    (height < side && width < side).then(|| [offset(height), offset(width), height, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::stream::StreamPurpose;

    #[test]
    fn one_box_of_normal_noise() {
        const SIDE: usize = 64;
        let (mut share, mut sum, mut squares, mut count) = (0.0, 0.0, 0.0, 0.0);
        let runs = 300;
        for sample in 0..runs {
            let mut s = Stream::new(StreamPurpose::Augment, [1, 0, sample]);
            let mut pixels = vec![[1, 2, 3]; SIDE * SIDE].concat();
            erase(&mut pixels, SIDE, &mut s);
            let hit: Vec<usize> = (0..SIDE * SIDE).filter(|i| pixels[i * 3..][..3] != [1, 2, 3]).collect();
            let (rows, columns) = (hit.iter().map(|i| i / SIDE), hit.iter().map(|i| i % SIDE));
            let length = |v: Vec<usize>| v.iter().max().unwrap() - v.iter().min().unwrap() + 1;
            let (height, width) = (length(rows.collect()), length(columns.collect()));
            assert_eq!(hit.len(), height * width, "not a box");
            // Area and aspect within their bounds, but for rounding to whole pixels.
            let (area, aspect) = (hit.len() as f64 / (SIDE * SIDE) as f64, height as f64 / width as f64);
            assert!((0.017..0.345).contains(&area) && (0.26..3.8).contains(&aspect), "{area} {aspect}");
            share += area / runs as f64;
            for i in hit {
                let z = (f64::from(pixels[i * 3 + 2]) / 255.0 - f64::from(MEAN[2])) / f64::from(STD[2]);
                (sum, squares, count) = (sum + z, squares + z * z, count + 1.0);
            }
        }
        // Blue is clamped at −1.80 and 2.64, which moves the mean to 0.015 and the variance to 0.93 (numeric integral).
        let (mean, variance) = (sum / count, squares / count);
        assert!(
            (share - 0.17).abs() < 0.02 && (mean - 0.015).abs() < 0.01 && (variance - 0.93).abs() < 0.02,
            "{share} {mean} {variance}"
        );
    }

    #[test]
    fn a_box_that_cannot_fit_is_left_out() {
        let mut pixels = [5; 3];
        erase(&mut pixels, 1, &mut Stream::new(StreamPurpose::Augment, [0; 3]));
        assert_eq!(pixels, [5; 3]);
    }
}

//! The choice of 3-Augment (Touvron et al. 2022, "DeiT III").
use super::{Canvas, blur, tone};
use crate::train::rng::Stream;

/// One of greyscale, solarize at 128, and Gaussian blur with sigma (0.1, 2), equally often.
pub fn three_augment(c: &mut Canvas, s: &mut Stream) {
    match s.below(3) {
        0 => tone::greyscale(c),
        1 => tone::solarize(c, 128),
        _ => blur::gaussian_blur(c, s.range(0.1, 2.0) as f32),
    }
}

//! 3-Augment (Touvron et al. 2022, "DeiT III"; timm's `3a`).
use super::{blur, tone};
use crate::data::augment::Canvas;
use crate::data::stream::Stream;

/// Applies one of three operations, each with probability ⅓: grayscale, solarize at 128, or a Gaussian blur with sigma
/// from 0.1 to 2.
pub fn three_augment(c: &mut Canvas, s: &mut Stream) {
    match s.below(3) {
        0 => tone::grayscale(c),
        1 => tone::solarize(c, 128),
        _ => blur::gaussian_blur(c, s.range(0.1, 2.0) as f32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::stream::StreamPurpose;

    #[test]
    fn each_of_the_three_comes_as_often() {
        let original: Vec<u8> = (0..8 * 8 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let mut counts = [0; 3];
        for sample in 0..900 {
            let (mut pixels, mut spare) = (original.clone(), Vec::new());
            let mut s = Stream::new(StreamPurpose::Augment, [0, 1, sample]);
            three_augment(&mut Canvas { side: 8, pixels: &mut pixels, spare: &mut spare }, &mut s);
            let gray = pixels.chunks(3).all(|p| p[0] == p[1] && p[1] == p[2]);
            let solarized = pixels.iter().zip(&original).all(|(&v, &was)| v == was.min(255 - was));
            counts[if gray {
                0
            } else if solarized {
                1
            } else {
                2
            }] += 1;
        }
        // 300 each; the standard deviation is 14.
        assert!(counts.iter().all(|count| (240..360).contains(count)), "{counts:?}");
    }
}

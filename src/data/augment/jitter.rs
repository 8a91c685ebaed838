//! torchvision's `ColorJitter(strength, strength, strength)`.
use super::{enhance, tone};
use crate::data::augment::Canvas;
use crate::data::stream::Stream;

/// Changes brightness, contrast and saturation in random order, each by a factor from 1 − `strength` to 1 + `strength`.
pub fn color_jitter(c: &mut Canvas, strength: f64, s: &mut Stream) {
    let mut order = [tone::brightness, tone::contrast, enhance::color];
    s.shuffle(&mut order);
    for change in order {
        change(c, s.range((1.0 - strength).max(0.0), 1.0 + strength) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::stream::StreamPurpose;

    fn jittered(original: &[u8], strength: f64, sample: u64) -> Vec<u8> {
        let (mut pixels, mut spare) = (original.to_vec(), Vec::new());
        let mut s = Stream::new(StreamPurpose::Augment, [0, 2, sample]);
        color_jitter(&mut Canvas { side: 2, pixels: &mut pixels, spare: &mut spare }, strength, &mut s);
        pixels
    }

    #[test]
    fn factors_lie_around_one() {
        // An image of one gray is not changed by contrast and saturation, so that only brightness shows.
        let mut sum = 0.0;
        for sample in 0..1000 {
            let got = jittered(&[100; 12], 0.3, sample);
            assert!((70..130).contains(&got[0]) && got.iter().all(|&v| v == got[0]), "{got:?}");
            sum += f64::from(got[0]);
        }
        // Uniform on 70 … 130, cut off to whole numbers; the standard error is 0.55.
        assert!((sum / 1000.0 - 99.5).abs() < 2.5, "{sum}");
        let colors = [200, 10, 60, 9, 120, 40, 77, 78, 79, 250, 250, 0];
        assert_eq!(jittered(&colors, 0.0, 0), colors);
        assert_ne!(jittered(&colors, 0.3, 0), jittered(&colors, 0.3, 1));
    }
}

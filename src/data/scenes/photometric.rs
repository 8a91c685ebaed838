//! mmsegmentation's `PhotoMetricDistortion`: brightness, contrast, saturation and hue of a training image, each with
//! probability ½. Every step is cut to 0 to 255 and truncated to bytes, as there.

use crate::data::stream::Stream;

/// Changes pixels (n, 3) in place.
pub(super) fn distort(pixels: &mut [u8], s: &mut Stream) {
    if s.chance(0.5) {
        let shift = s.range(-32.0, 32.0) as f32;
        each(pixels, |v| v + shift);
    }
    // contrast comes before the colors in half of all images, and after them in the others
    let first = s.chance(0.5);
    if first {
        contrast(pixels, s);
    }
    if s.chance(0.5) {
        let factor = s.range(0.5, 1.5) as f32;
        colors(pixels, |[h, sat, v]| [h, truncated(f32::from(sat) * factor), v]);
    }
    if s.chance(0.5) {
        let turn = s.below(36) as i32 - 18;
        colors(pixels, |[h, sat, v]| [(i32::from(h) + turn).rem_euclid(180) as u8, sat, v]);
    }
    if !first {
        contrast(pixels, s);
    }
}

fn contrast(pixels: &mut [u8], s: &mut Stream) {
    if s.chance(0.5) {
        let factor = s.range(0.5, 1.5) as f32;
        each(pixels, |v| v * factor);
    }
}

fn truncated(v: f32) -> u8 {
    v.clamp(0.0, 255.0) as u8
}

fn each(pixels: &mut [u8], change: impl Fn(f32) -> f32) {
    pixels.iter_mut().for_each(|v| *v = truncated(change(f32::from(*v))));
}

/// Changes pixels as hue (0 to 179), saturation and value.
fn colors(pixels: &mut [u8], change: impl Fn([u8; 3]) -> [u8; 3]) {
    for pixel in pixels.as_chunks_mut::<3>().0 {
        *pixel = from_hsv(change(to_hsv(*pixel)));
    }
}

/// OpenCV's `COLOR_RGB2HSV` of bytes: hue in half degrees.
fn to_hsv(pixel: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = pixel.map(f32::from);
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let range = most - least;
    let hue = match range {
        0.0 => 0.0,
        _ if most == r => 60.0 * (g - b) / range,
        _ if most == g => 120.0 + 60.0 * (b - r) / range,
        _ => 240.0 + 60.0 * (r - g) / range,
    };
    let hue = (hue.rem_euclid(360.0) / 2.0).round() as u32 % 180;
    let saturation = if most > 0.0 { (255.0 * range / most).round() } else { 0.0 };
    [hue as u8, saturation as u8, most as u8]
}

/// OpenCV's `COLOR_HSV2RGB` of bytes.
fn from_hsv([h, s, v]: [u8; 3]) -> [u8; 3] {
    let (sector, s, v) = (f32::from(h) / 30.0, f32::from(s) / 255.0, f32::from(v));
    let channel = |shift: f32| {
        let k = (shift + sector) % 6.0;
        (v - v * s * k.min(4.0 - k).clamp(0.0, 1.0)).round() as u8
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::stream::StreamPurpose;

    #[test]
    fn colors_there_and_back() {
        assert_eq!(to_hsv([255, 0, 0]), [0, 255, 255]);
        assert_eq!(to_hsv([0, 0, 200]), [120, 255, 200]);
        assert_eq!(to_hsv([7, 7, 7]), [0, 0, 7]);
        for pixel in [[10, 200, 30], [250, 3, 120], [1, 2, 3], [90, 90, 200], [255, 255, 255]] {
            let back = from_hsv(to_hsv(pixel));
            // hue has steps of two degrees
            assert!(pixel.iter().zip(back).all(|(a, b)| a.abs_diff(b) <= 6), "{pixel:?} {back:?}");
        }
    }

    #[test]
    fn images_change_but_not_much_on_average() {
        let gray = vec![120u8; 300];
        let mut changed = 0;
        for i in 0..100 {
            let mut pixels = gray.clone();
            distort(&mut pixels, &mut Stream::new(StreamPurpose::Augment, [1, 2, i]));
            changed += usize::from(pixels != gray);
            assert!(pixels.iter().all(|v| (30..=230).contains(v)), "{pixels:?}");
        }
        assert!((60..95).contains(&changed), "{changed}"); // gray has no colors to change: 1 − ¼
    }
}

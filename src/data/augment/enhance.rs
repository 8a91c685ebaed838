//! PIL's `ImageEnhance.Color` and `ImageEnhance.Sharpness`: blends of an image with a gray and with a smooth version of
//! it. A factor of 1 changes nothing, 0 gives the other version, and above 1 the effect is the opposite.
use crate::data::augment::{Canvas, blend, luma};

/// Changes the saturation: blends with the gray image.
pub fn color(c: &mut Canvas, factor: f32) {
    for pixel in c.pixels.chunks_exact_mut(3) {
        let gray = luma(pixel);
        pixel.iter_mut().for_each(|v| *v = blend(gray, *v, factor));
    }
}

/// Changes the sharpness: blends with the image smoothed by the kernel (1 1 1, 1 5 1, 1 1 1) / 13. The outermost pixels
/// stay as they are.
pub fn sharpness(c: &mut Canvas, factor: f32) {
    c.save();
    let (side, row) = (c.side, c.side * 3);
    for y in 1..side.saturating_sub(1) {
        let [above, here, below] = [y - 1, y, y + 1].map(|y| &c.spare[y * row..][..row]);
        let out = &mut c.pixels[y * row..][..row];
        for i in 3..row - 3 {
            let three = |r: &[u8]| u32::from(r[i - 3]) + u32::from(r[i]) + u32::from(r[i + 3]);
            let sum = three(above) + three(here) + three(below) + 4 * u32::from(here[i]);
            // sum / 13, rounded; 13 is odd, so that there is no tie
            out[i] = blend(((2 * sum + 13) / 26) as u8, here[i], factor);
        }
    }
}

//! Operations that map each byte by itself (PIL's `Image.point`): PIL's `ImageOps`, and `ImageEnhance.Brightness` and
//! `Contrast`. Each is a table of 256 values, for all channels or for each.
use crate::data::augment::{Canvas, blend, luma};

/// Replaces each byte v by f(v).
fn map(c: &mut Canvas, f: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|v| f(v as u8));
    c.pixels.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
}

/// Replaces each byte by the value that the `table` of its channel has for it.
fn map_channels(c: &mut Canvas, tables: [[u8; 256]; 3]) {
    for pixel in c.pixels.chunks_exact_mut(3) {
        pixel.iter_mut().zip(&tables).for_each(|(v, table)| *v = table[usize::from(*v)]);
    }
}

/// How often each value occurs in each channel.
fn histograms(c: &Canvas) -> [[u32; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for pixel in c.pixels.chunks_exact(3) {
        pixel.iter().zip(&mut counts).for_each(|(&v, count)| count[usize::from(v)] += 1);
    }
    counts
}

/// 255 − v.
pub fn invert(c: &mut Canvas) {
    map(c, |v| 255 - v);
}

/// Inverts the values that are at least `threshold`.
pub fn solarize(c: &mut Canvas, threshold: u32) {
    map(c, |v| if u32::from(v) < threshold { v } else { 255 - v });
}

/// Adds `amount` to the values below 128.
pub fn solarize_add(c: &mut Canvas, amount: u8) {
    map(c, |v| if v < 128 { v.saturating_add(amount) } else { v });
}

/// Keeps the upper `bits` bits of each value and sets the others to 0; 8 and more change nothing.
pub fn posterize(c: &mut Canvas, bits: u32) {
    let mask = 0xff_u8.checked_shl(8_u32.saturating_sub(bits)).unwrap_or(0);
    map(c, |v| v & mask);
}

/// Blends with black: v · factor.
pub fn brightness(c: &mut Canvas, factor: f32) {
    map(c, |v| blend(0, v, factor));
}

/// Blends with a gray image of the mean luma.
pub fn contrast(c: &mut Canvas, factor: f32) {
    let sum: u64 = c.pixels.chunks_exact(3).map(|p| u64::from(luma(p))).sum();
    let mean = (sum as f64 / (c.side * c.side) as f64 + 0.5) as u8;
    map(c, |v| blend(mean, v, factor));
}

/// Replaces each pixel by its luma.
pub fn grayscale(c: &mut Canvas) {
    for pixel in c.pixels.chunks_exact_mut(3) {
        let gray = luma(pixel);
        pixel.fill(gray);
    }
}

/// Stretches each channel, so that its smallest value becomes 0 and its largest 255.
pub fn auto_contrast(c: &mut Canvas) {
    let tables = histograms(c).map(|counts| {
        let low = counts.iter().position(|&n| n > 0).unwrap_or(0);
        let high = counts.iter().rposition(|&n| n > 0).unwrap_or(0);
        if high <= low {
            return std::array::from_fn(|v| v as u8);
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        std::array::from_fn(|v| (v as f64 * scale + offset) as u8)
    });
    map_channels(c, tables);
}

/// Equalizes the histogram of each channel: values become about equally frequent.
pub fn equalize(c: &mut Canvas) {
    let tables = histograms(c).map(|counts| {
        let last = counts.iter().rfind(|&&n| n > 0).copied().unwrap_or(0);
        let step = (counts.iter().sum::<u32>() - last) / 255;
        if step == 0 {
            return std::array::from_fn(|v| v as u8);
        }
        let mut below = step / 2;
        counts.map(|n| {
            let value = (below / step).min(255) as u8;
            below += n;
            value
        })
    });
    map_channels(c, tables);
}

//! ColorJitter of torchvision.
use super::{Canvas, enhance, tone};
use crate::train::rng::Stream;

/// Brightness, contrast and saturation, in random order, each by a factor from 1 − `strength` to 1 + `strength`.
pub fn colour_jitter(c: &mut Canvas, strength: f64, s: &mut Stream) {
    let mut order = [tone::brightness, tone::contrast, enhance::colour];
    s.shuffle(&mut order);
    for change in order {
        change(c, s.range((1.0 - strength).max(0.0), 1.0 + strength) as f32);
    }
}

//! The colors in which pictures show classes.

/// Share of a class's color over an image.
pub const COVER: f32 = 0.55;

/// The color of a class: hues a golden angle apart, in three brightnesses, so that neighbors in the list differ.
pub fn class_color(class: usize) -> [u8; 3] {
    let hue = (class as f32 * 137.508) % 360.0 / 60.0;
    let (value, saturation) = [(0.95, 0.75), (0.7, 0.85), (1.0, 0.45)][class / 3 % 3];
    let channel = |shift: f32| {
        let k = (shift + hue) % 6.0;
        (255.0 * (value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0))).round() as u8
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_of_neighbors_differ() {
        for class in 0..150 {
            let far = |a: [u8; 3], b: [u8; 3]| a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(b))).sum::<u32>() > 60;
            assert!(far(class_color(class), class_color(class + 1)), "{class}");
        }
    }
}

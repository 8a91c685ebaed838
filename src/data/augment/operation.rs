//! The operations of RandAugment and their strengths: timm's `_RAND_TRANSFORMS` and `LEVEL_TO_ARG`.
use super::{affine, enhance, tone};
use crate::data::augment::Canvas;
use crate::data::imagenet::MEAN;
use crate::data::rand_augment::RandAugment;
use crate::data::stream::Stream;

impl RandAugment {
    /// Changes `c` by operations that `s` draws.
    pub(in crate::data) fn apply(&self, c: &mut Canvas, s: &mut Stream) {
        for _ in 0..self.operations {
            let operation = Operation::ALL[s.below(Operation::ALL.len() as u64) as usize];
            if s.chance(0.5) {
                let strength = (self.magnitude + self.deviation * s.normal_pair()[0]).clamp(0.0, 10.0);
                operation.apply(c, operation.argument(strength, self.increasing, s.chance(0.5)));
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    Solarize,
    SolarizeAdd,
    Color,
    Contrast,
    Brightness,
    Sharpness,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
}

impl Operation {
    const ALL: [Self; 15] = [
        Self::AutoContrast,
        Self::Equalize,
        Self::Invert,
        Self::Rotate,
        Self::Posterize,
        Self::Solarize,
        Self::SolarizeAdd,
        Self::Color,
        Self::Contrast,
        Self::Brightness,
        Self::Sharpness,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
    ];

    /// The argument of an operation at strength `m`, from 0 to 10: degrees, bits, a threshold, a summand, a factor, or
    /// a share of the side, depending on the operation; 0 where there is none. Operations with a direction take the
    /// opposite one if `negative`.
    fn argument(self, m: f64, increasing: bool, negative: bool) -> f64 {
        let signed = |v: f64| if negative { -v } else { v };
        match self {
            Self::AutoContrast | Self::Equalize | Self::Invert => 0.0,
            Self::Rotate => signed(m / 10.0 * 30.0),
            Self::Posterize if increasing => 4.0 - (m / 10.0 * 4.0).floor(),
            Self::Posterize => (m / 10.0 * 4.0).floor(),
            Self::Solarize if increasing => 256.0 - (m / 10.0 * 256.0).floor(),
            Self::Solarize => (m / 10.0 * 256.0).floor(),
            Self::SolarizeAdd => (m / 10.0 * 110.0).floor(),
            Self::Color | Self::Contrast | Self::Brightness | Self::Sharpness => {
                if increasing {
                    (1.0 + signed(m / 10.0 * 0.9)).max(0.1)
                } else {
                    m / 10.0 * 1.8 + 0.1
                }
            }
            Self::ShearX | Self::ShearY => signed(m / 10.0 * 0.3),
            Self::TranslateX | Self::TranslateY => signed(m / 10.0 * 0.45),
        }
    }

    fn apply(self, c: &mut Canvas, argument: f64) {
        let fill = MEAN.map(|mean| (255.0 * mean).round() as u8);
        match self {
            Self::AutoContrast => tone::auto_contrast(c),
            Self::Equalize => tone::equalize(c),
            Self::Invert => tone::invert(c),
            Self::Rotate => affine::rotate(c, argument, fill),
            Self::Posterize => tone::posterize(c, argument as u32),
            Self::Solarize => tone::solarize(c, argument as u32),
            Self::SolarizeAdd => tone::solarize_add(c, argument as u8),
            Self::Color => enhance::color(c, argument as f32),
            Self::Contrast => tone::contrast(c, argument as f32),
            Self::Brightness => tone::brightness(c, argument as f32),
            Self::Sharpness => enhance::sharpness(c, argument as f32),
            Self::ShearX => affine::shear_x(c, argument, fill),
            Self::ShearY => affine::shear_y(c, argument, fill),
            Self::TranslateX => affine::translate_x(c, argument, fill),
            Self::TranslateY => affine::translate_y(c, argument, fill),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::stream::StreamPurpose;

    #[test]
    fn arguments_are_those_of_the_increasing_set() {
        use Operation::*;
        let at = |m: f64| Operation::ALL.map(|o| (o, [false, true].map(|negative| o.argument(m, true, negative))));
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        for (m, rotate, bits, threshold, add, factors, shear, shift) in [
            (9.0, 27.0, 1.0, 26.0, 99.0, [1.81, 0.19], 0.27, 0.405),
            (10.0, 30.0, 0.0, 0.0, 110.0, [1.9, 0.1], 0.3, 0.45),
            (0.0, 0.0, 4.0, 256.0, 0.0, [1.0, 1.0], 0.0, 0.0),
        ] {
            for (operation, [positive, negative]) in at(m) {
                let expected = match operation {
                    AutoContrast | Equalize | Invert => [0.0; 2],
                    Rotate => [rotate, -rotate],
                    Posterize => [bits; 2],
                    Solarize => [threshold; 2],
                    SolarizeAdd => [add; 2],
                    Color | Contrast | Brightness | Sharpness => factors,
                    ShearX | ShearY => [shear, -shear],
                    TranslateX | TranslateY => [shift, -shift],
                };
                assert!(close(positive, expected[0]) && close(negative, expected[1]), "{operation:?} at {m}");
            }
        }
        assert_eq!([Posterize, Solarize, Color].map(|o| o.argument(5.0, false, true)), [2.0, 128.0, 1.0]);
    }

    #[test]
    fn about_a_quarter_stays_as_it_is() {
        // Each of two operations is applied with probability ½; a few, like Posterize to 8 bits, would change nothing.
        let original: Vec<u8> = (0..8 * 8 * 3).map(|i| (i * 37 % 200) as u8 + 30).collect();
        let unchanged = (0..2000).filter(|&sample| {
            let (mut pixels, mut spare) = (original.clone(), Vec::new());
            let mut s = Stream::new(StreamPurpose::Augment, [0, 0, sample]);
            RandAugment::DEIT.apply(&mut Canvas { side: 8, pixels: &mut pixels, spare: &mut spare }, &mut s);
            pixels == original
        });
        // Expected 500 and some from two inversions; the standard deviation is 19.
        let unchanged = unchanged.count();
        assert!((420..600).contains(&unchanged), "{unchanged}");
    }
}

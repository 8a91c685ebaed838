//! Generated images, so that everything can be tried without a download. Each shows one textured shape on a textured
//! ground; the shape is the class.
use super::sample::{Rgb8, Sample};
use super::shapes::{BLOB, NAMES, distance};
use super::source::Source;
use super::stream::{Stream, StreamPurpose};
use crate::data::split::Split;
use crate::error::DataError;

const DEFAULT_COUNT: usize = 2048;
const MAX_COUNT: usize = 1 << 24;

/// Images of shapes in ten classes. Sample i has class i mod 10, and is a function of the split, i and the side.
pub(crate) struct Synthetic {
    split: Split,
    side: usize,
    count: usize,
    classes: Vec<String>,
}

impl Synthetic {
    /// Reads `synthetic` or `synthetic:N`, drawn at `side` × `side` pixels. The test split has N / 4 images, none of
    /// which is in the train split.
    pub fn parse(spec: &str, side: usize, split: Split) -> Result<Self, DataError> {
        let count = match spec.split_once(':') {
            None => DEFAULT_COUNT,
            Some((_, number)) => number
                .parse()
                .ok()
                .filter(|n| (1..=MAX_COUNT).contains(n))
                .ok_or_else(|| DataError::setting("the N of synthetic:N", number, format!("1 to {MAX_COUNT}")))?,
        };
        let count = match split {
            Split::Train => count,
            Split::Test => (count / 4).max(1),
        };
        if !(1..=4096).contains(&side) {
            return Err(DataError::setting("the side of a synthetic image", side, "1 to 4096 pixels"));
        }
        Ok(Self { split, side, count, classes: NAMES.map(str::to_owned).to_vec() })
    }
}

/// The material of the shape or of the ground: two colors, mixed by a ramp, waves and soft noise.
pub(super) struct Texture {
    colors: [[f32; 3]; 2],
    ramp: [f32; 2],
    wave: [f32; 3],
    contrast: f32,
    noise: [[f32; 9]; 9],
}

impl Texture {
    pub(super) fn draw(s: &mut Stream, colors: [[f32; 3]; 2]) -> Self {
        let (ramp, turn) = (s.range(0.0, std::f64::consts::TAU), s.range(0.0, std::f64::consts::TAU));
        // 2 to 8 periods across the image: coarser than a pixel, so that they survive a resize, and finer than a hidden
        // patch of a 14 × 14 grid, so that there is something to reconstruct.
        let frequency = s.range(2.0, 8.0) * std::f64::consts::PI;
        let wave = [frequency * turn.cos(), frequency * turn.sin(), s.range(0.0, 6.3)].map(|v| v as f32);
        let mut noise = [[0.0; 9]; 9];
        noise.iter_mut().flatten().for_each(|v| *v = s.range(-1.0, 1.0) as f32);
        Self { colors, ramp: [ramp.cos() as f32, ramp.sin() as f32], wave, contrast: s.range(0.1, 0.4) as f32, noise }
    }

    /// Color at (x, y) in [-1, 1]².
    pub(super) fn at(&self, x: f32, y: f32) -> [f32; 3] {
        let ramp = 0.35 * (x * self.ramp[0] + y * self.ramp[1]);
        let wave = self.contrast * (x * self.wave[0] + y * self.wave[1] + self.wave[2]).sin();
        let mix = (0.5 + ramp + 0.5 * wave + 0.25 * self.noise_at(x, y)).clamp(0.0, 1.0);
        std::array::from_fn(|c| self.colors[0][c] + mix * (self.colors[1][c] - self.colors[0][c]))
    }

    fn noise_at(&self, x: f32, y: f32) -> f32 {
        let cell = |v: f32| {
            let v = ((v + 1.0) * 4.0).clamp(0.0, 7.999);
            (v as usize, v.fract())
        };
        let ((i, u), (j, v)) = (cell(x), cell(y));
        let row = |j: usize| self.noise[j][i] + u * (self.noise[j][i + 1] - self.noise[j][i]);
        row(j) + v * (row(j + 1) - row(j))
    }
}

/// Two similar colors for one material: of twelve random pairs, the one farthest from all colors in `others`.
pub(super) fn colors(s: &mut Stream, others: &[[f32; 3]]) -> [[f32; 3]; 2] {
    let mut best = ([[0.0; 3]; 2], -1.0);
    for _ in 0..12 {
        let first: [f32; 3] = std::array::from_fn(|_| s.unit() as f32);
        let second = first.map(|c| (c + s.range(-0.45, 0.45) as f32).clamp(0.0, 1.0));
        let apart = |o: &[f32; 3]| (0..3).map(|c| (o[c] - 0.5 * (first[c] + second[c])).powi(2)).sum::<f32>();
        let nearest = others.iter().map(apart).fold(f32::MAX, f32::min);
        if nearest > best.1 {
            best = ([first, second], nearest);
        }
    }
    best.0
}

impl Source for Synthetic {
    fn len(&self) -> usize {
        self.count
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> Option<u32> {
        (index < self.count).then_some((index % NAMES.len()) as u32)
    }

    fn name(&self, index: usize) -> String {
        format!("synthetic image {index}")
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let class = index % NAMES.len();
        let mut s = Stream::new(StreamPurpose::Synthetic, [0, self.split as u64, index as u64]);
        let ground_colors = colors(&mut s, &[]);
        let ground = Texture::draw(&mut s, ground_colors);
        let shape_colors = colors(&mut s, &ground_colors);
        let shape = Texture::draw(&mut s, shape_colors);
        let radius = s.range(0.4, 0.7) as f32;
        let (cx, cy) = (s.range(-0.4, 0.4) as f32, s.range(-0.4, 0.4) as f32);
        let (sin, cos) = (s.range(0.0, std::f64::consts::TAU) as f32).sin_cos();
        let side = self.side;
        let mut pixels = Vec::with_capacity(side * side * 3);
        for row in 0..side {
            for column in 0..side {
                let [x, y] = [column, row].map(|p| (p as f32 + 0.5) * (2.0 / side as f32) - 1.0);
                let (dx, dy) = ((x - cx) / radius, (y - cy) / radius);
                let (u, v) = (dx * cos + dy * sin, dy * cos - dx * sin);
                let coverage = if class == BLOB {
                    (-2.5 * (u * u + v * v)).exp()
                } else {
                    // The distance to the border in pixels, so that coverage fades over one pixel: antialiasing.
                    (0.5 - distance(class, u, v) * radius * (side as f32 / 2.0)).clamp(0.0, 1.0)
                };
                let (back, front) = (ground.at(x, y), shape.at(x, y));
                pixels.extend((0..3).map(|c| ((back[c] + coverage * (front[c] - back[c])) * 255.0 + 0.5) as u8));
            }
        }
        Ok(Rgb8 { width: side as u32, height: side as u32, pixels }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Dataset;

    #[test]
    fn images_are_fixed_and_differ() {
        let set = Dataset::open("synthetic:40", Split::Train).unwrap();
        let again = Dataset::open("synthetic", Split::Train).unwrap();
        let test = Dataset::open("synthetic:40", Split::Test).unwrap();
        assert_eq!((set.len(), again.len(), test.len(), set.classes().len()), (40, 2048, 10, 10));
        for i in 0..10 {
            assert_eq!(set.label(i), Some(i as u32));
            assert_eq!(set.image(i).unwrap(), again.image(i).unwrap());
            assert_ne!(set.image(i).unwrap(), set.image(i + 10).unwrap());
            assert_ne!(set.image(i).unwrap(), test.image(i).unwrap());
        }
        assert_eq!(set.label(40), None);
    }

    #[test]
    fn images_are_varied_and_smooth() {
        // A reconstruction is a task only if an image has contrast, and can be solved only if near pixels are alike.
        let set = Dataset::open("synthetic:200", Split::Train).unwrap();
        let (mut spread, mut step) = (0.0, 0.0);
        for i in 0..200 {
            let pixels = set.image(i).unwrap().pixels;
            let n = pixels.len() as f64;
            let mean = pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / n;
            spread += (pixels.iter().map(|&p| (f64::from(p) - mean).powi(2)).sum::<f64>() / n).sqrt() / 200.0;
            step += pixels.windows(4).map(|w| f64::from(w[0].abs_diff(w[3]))).sum::<f64>() / n / 200.0;
        }
        assert!((40.0..90.0).contains(&spread), "standard deviation {spread}");
        assert!((1.0..15.0).contains(&step), "mean step between neighbors {step}");
    }

    #[test]
    fn another_side_is_the_same_picture() {
        let (large, small) =
            [96, 32].map(|side| Dataset::synthetic("synthetic:40", side, Split::Train).unwrap()).into();
        for i in 0..10 {
            let (large, small): (Rgb8, Rgb8) = (large.image(i).unwrap(), small.image(i).unwrap());
            assert_eq!((small.width, small.pixels.len()), (32, 32 * 32 * 3));
            let at = |image: &Rgb8, row: usize, column: usize| image.pixels[(row * image.width as usize + column) * 3];
            // Each small pixel covers 3 × 3 large ones and has its center in the middle one.
            let off = |n: usize| small.pixels[n * 3].abs_diff(at(&large, n / 32 * 3 + 1, n % 32 * 3 + 1)) > 1;
            let differing = (0..32 * 32).filter(|&n| off(n)).count();
            // near a border the two sizes are antialiased differently
            assert!(differing < 200, "class {i}: {differing} of 1024 pixels differ");
        }
        assert!(Dataset::synthetic("synthetic", 0, Split::Train).is_err());
    }

    #[test]
    fn bad_counts_are_named() {
        for spec in ["synthetic:", "synthetic:0", "synthetic:many", "synthetic:99999999999"] {
            let error = Dataset::open(spec, Split::Train).unwrap_err().to_string();
            assert!(error.contains("synthetic:N") && error.contains("1 to"), "{error}");
        }
    }
}

//! Generated scenes, so that segmentation can be tried without a download: several textured shapes on a textured
//! ground, which overlap and are cut off by the border. The class of a pixel is its shape, or the ground.

use crate::data::sample::{Rgb8, Sample, SegmentationMap};
use crate::data::shapes::{BLOB, NAMES, distance};
use crate::data::source::Source;
use crate::data::split::Split;
use crate::data::stream::{Stream, StreamPurpose};
use crate::data::synthetic::{Texture, colors};
use crate::error::DataError;

const DEFAULT_COUNT: usize = 2048;
const MAX_COUNT: usize = 1 << 24;
/// Rows and columns of an image, by turns: no two neighbors have one shape.
const SIZES: [[usize; 2]; 3] = [[96, 96], [96, 128], [120, 88]];
/// Pixels whose coverage by a shape lies between these have no class: the band of an outline.
const BAND: (f32, f32) = (0.1, 0.9);

/// Scenes of shapes in eleven classes, the first of which is the ground. Scene i is a function of the split and i.
pub(crate) struct SyntheticScenes {
    split: Split,
    count: usize,
    classes: Vec<String>,
}

/// A shape of a scene.
struct Shape {
    class: usize,
    texture: Texture,
    center: [f32; 2],
    radius: f32,
    turn: (f32, f32),
}

impl SyntheticScenes {
    /// Reads `synthetic-scenes` or `synthetic-scenes:N`. The test split has N / 4 scenes, none of which is in the train
    /// split.
    pub fn parse(spec: &str, split: Split) -> Result<Self, DataError> {
        let wrong = |number| DataError::setting("the N of synthetic-scenes:N", number, format!("1 to {MAX_COUNT}"));
        let count = match spec.split_once(':') {
            None => DEFAULT_COUNT,
            Some((_, number)) => {
                number.parse().ok().filter(|n| (1..=MAX_COUNT).contains(n)).ok_or_else(|| wrong(number))?
            }
        };
        let count = match split {
            Split::Train => count,
            Split::Test => (count / 4).max(1),
        };
        let classes = std::iter::once("ground").chain(NAMES).map(str::to_owned).collect();
        Ok(Self { split, count, classes })
    }
}

impl Source for SyntheticScenes {
    fn len(&self) -> usize {
        self.count
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        format!("synthetic scene {index} ({} split)", self.split.name())
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        // images have 0 in front, clouds 1
        let mut s = Stream::new(StreamPurpose::Synthetic, [2, self.split as u64, index as u64]);
        let [rows, cols] = SIZES[index % SIZES.len()];
        let ground_colors = colors(&mut s, &[]);
        let ground = Texture::draw(&mut s, ground_colors);
        let shapes: Vec<Shape> = (0..3 + s.below(3)).map(|_| shape(&mut s, &ground_colors)).collect();
        let half = rows.min(cols) as f32 / 2.0;
        let (mut pixels, mut classes) = (Vec::new(), Vec::new());
        for row in 0..rows {
            for column in 0..cols {
                let x = (column as f32 + 0.5 - cols as f32 / 2.0) / half;
                let y = (row as f32 + 0.5 - rows as f32 / 2.0) / half;
                let mut color = ground.at(x, y);
                let mut class = 0;
                for shape in &shapes {
                    let covered = shape.coverage(x, y, half);
                    let front = shape.texture.at(x, y);
                    color = std::array::from_fn(|c| color[c] + covered * (front[c] - color[c]));
                    class = match covered {
                        covered if covered >= BAND.1 => shape.class as u16 + 1,
                        covered if covered > BAND.0 => SegmentationMap::IGNORED,
                        _ => class,
                    };
                }
                pixels.extend(color.map(|c| (c * 255.0 + 0.5) as u8));
                classes.push(class);
            }
        }
        let (width, height) = (cols as u32, rows as u32);
        Ok(Sample::Segmented(Rgb8 { width, height, pixels }, SegmentationMap { width, height, classes }))
    }
}

/// A shape whose center may lie next to the border.
fn shape(s: &mut Stream, ground: &[[f32; 3]]) -> Shape {
    let class = loop {
        let class = s.below(NAMES.len() as u64) as usize;
        if class != BLOB {
            break class; // it has no outline
        }
    };
    let own = colors(s, ground);
    Shape {
        class,
        texture: Texture::draw(s, own),
        center: [s.range(-1.0, 1.0) as f32, s.range(-1.0, 1.0) as f32],
        radius: s.range(0.25, 0.6) as f32,
        turn: (s.range(0.0, std::f64::consts::TAU) as f32).sin_cos(),
    }
}

impl Shape {
    /// 1 inside, 0 outside, and between them over one pixel. `half` are the pixels of a unit.
    fn coverage(&self, x: f32, y: f32, half: f32) -> f32 {
        let (dx, dy) = ((x - self.center[0]) / self.radius, (y - self.center[1]) / self.radius);
        let (sin, cos) = self.turn;
        let (u, v) = (dx * cos + dy * sin, dy * cos - dx * sin);
        (0.5 - distance(self.class, u, v) * self.radius * half).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Dataset;

    #[test]
    fn scenes_are_fixed_and_have_classes_outlines_and_borders() {
        let open =
            |split| Dataset::new("scenes", SyntheticScenes::parse("synthetic-scenes:40", split).unwrap()).unwrap();
        let (set, again, test) = (open(Split::Train), open(Split::Train), open(Split::Test));
        assert_eq!((set.len(), test.len(), set.classes().len()), (40, 10, 11));
        let mut seen = [0usize; 11];
        let (mut ignored, mut at_border, mut several) = (0, 0, 0);
        for i in 0..40 {
            let Sample::Segmented(image, map) = set.sample(i).unwrap() else { panic!("scene {i}") };
            assert_eq!(set.sample(i).unwrap(), again.sample(i).unwrap());
            let of_test = test.sample(i % 10).unwrap();
            assert_ne!(Sample::Segmented(image, map.clone()), of_test);
            map.classes.iter().filter(|class| **class < 11).for_each(|class| seen[usize::from(*class)] += 1);
            ignored += map.classes.iter().filter(|class| **class == SegmentationMap::IGNORED).count();
            let width = map.width as usize;
            at_border += usize::from(map.classes[..width].iter().any(|class| (1..11).contains(class)));
            let mut classes = map.classes.clone();
            classes.sort_unstable();
            classes.dedup();
            several += usize::from(classes.iter().filter(|class| (1..11).contains(*class)).count() > 1);
        }
        let total: usize = seen.iter().sum();
        assert!(seen.iter().enumerate().all(|(class, n)| (*n > 100) == (class != BLOB + 1)), "{seen:?}");
        assert!(seen[0] > total / 4 && ignored > total / 50 && ignored < total / 5, "{seen:?} {ignored}");
        assert!(at_border > 10 && several > 20, "{at_border} {several}");
    }

    #[test]
    fn bad_counts_are_named() {
        for spec in ["synthetic-scenes:", "synthetic-scenes:0", "synthetic-scenes:x"] {
            let error = SyntheticScenes::parse(spec, Split::Train).err().unwrap().to_string();
            assert!(error.contains("synthetic-scenes:N"), "{error}");
        }
    }
}

//! Generated scenes, so that segmentation can be tried without a download: several textured shapes on a textured
//! ground, which overlap and are cut off by the border. The class of a pixel is its shape, or the ground. The same
//! pictures show objects, for detection.
//!
//! As most things, a shape has typical colors: a range of hues that it shares with its neighbors in the list. By
//! outline alone a small network needs tens of thousands of pictures to tell ten shapes in any turn from each other,
//! and until then it calls every pixel ground.

use crate::data::masks::{ObjectMask, RunLengths};
use crate::data::sample::{ObjectBox, Rgb8, Sample, SegmentationMap};
use crate::data::shapes::{BLOB, NAMES, distance};
use crate::data::source::Source;
use crate::data::split::Split;
use crate::data::stream::{Stream, StreamPurpose};
use crate::data::synthetic::Texture;
use crate::error::DataError;

const DEFAULT_COUNT: usize = 2048;
const MAX_COUNT: usize = 1 << 24;
/// Rows and columns of an image, by turns: no two neighbors have one shape.
const SIZES: [[usize; 2]; 3] = [[96, 96], [96, 128], [120, 88]];
/// Pixels whose coverage by a shape lies between these have no class: the band of an outline.
const BAND: (f32, f32) = (0.1, 0.9);
/// Pixels of an object, at least; and the share of it that must show, or else it is one that does not count.
const SEEN: (usize, f64) = (20, 0.25);
/// Saturation of the ground, at most, and how far the hue of a shape is from that of its class, in turns.
const PALE: f64 = 0.35;
const SPREAD: f64 = 0.07;

/// Scenes of shapes in eleven classes, the first of which is the ground. Scene i is a function of the split and i.
pub(crate) struct SyntheticScenes {
    /// Whether a sample has boxes and masks of the shapes in place of classes of pixels.
    objects: bool,
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
        let classes = std::iter::once("ground").chain(NAMES).map(str::to_owned).collect();
        Ok(Self { objects: false, count: count(spec, split, "the N of synthetic-scenes:N")?, split, classes })
    }

    /// Reads `synthetic-objects` or `synthetic-objects:N`: the same pictures. Classes are those of the shapes.
    pub fn of_objects(spec: &str, split: Split) -> Result<Self, DataError> {
        let classes = NAMES.map(str::to_owned).to_vec();
        Ok(Self { objects: true, count: count(spec, split, "the N of synthetic-objects:N")?, split, classes })
    }
}

/// The number of scenes in a split.
fn count(spec: &str, split: Split, what: &'static str) -> Result<usize, DataError> {
    let wrong = |number| DataError::setting(what, number, format!("1 to {MAX_COUNT}"));
    let count = match spec.split_once(':') {
        None => DEFAULT_COUNT,
        Some((_, number)) => {
            number.parse().ok().filter(|n| (1..=MAX_COUNT).contains(n)).ok_or_else(|| wrong(number))?
        }
    };
    Ok(match split {
        Split::Train => count,
        Split::Test => (count / 4).max(1),
    })
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
        let (turn, pale) = (s.unit(), s.range(0.0, PALE));
        let ground_colors = material(&mut s, turn, pale);
        let ground = Texture::draw(&mut s, ground_colors);
        let shapes: Vec<Shape> = (0..3 + s.below(3)).map(|_| shape(&mut s)).collect();
        let half = rows.min(cols) as f32 / 2.0;
        let (mut pixels, mut classes) = (Vec::new(), Vec::new());
        // of each pixel the shape in front, and of each shape its pixels, also those behind others
        let (mut front_of, mut whole) = (Vec::new(), vec![0usize; shapes.len()]);
        for row in 0..rows {
            for column in 0..cols {
                let x = (column as f32 + 0.5 - cols as f32 / 2.0) / half;
                let y = (row as f32 + 0.5 - rows as f32 / 2.0) / half;
                let mut color = ground.at(x, y);
                let (mut class, mut in_front) = (0, None);
                for (i, shape) in shapes.iter().enumerate() {
                    let covered = shape.coverage(x, y, half);
                    let front = shape.texture.at(x, y);
                    color = std::array::from_fn(|c| color[c] + covered * (front[c] - color[c]));
                    class = match covered {
                        covered if covered >= BAND.1 => shape.class as u16 + 1,
                        covered if covered > BAND.0 => SegmentationMap::IGNORED,
                        _ => class,
                    };
                    if covered >= 0.5 {
                        in_front = Some(i);
                        whole[i] += 1;
                    }
                }
                pixels.extend(color.map(|c| (c * 255.0 + 0.5) as u8));
                classes.push(class);
                front_of.push(in_front);
            }
        }
        let (width, height) = (cols as u32, rows as u32);
        if self.objects {
            let objects = objects(&shapes, &whole, &front_of, [width, height])?;
            return Ok(Sample::Detected(Rgb8 { width, height, pixels }, objects));
        }
        Ok(Sample::Segmented(Rgb8 { width, height, pixels }, SegmentationMap { width, height, classes }))
    }
}

/// The shapes that show, as objects. One of which a small part shows is a crowd: nobody could tell what it is.
fn objects(
    shapes: &[Shape], whole: &[usize], front_of: &[Option<usize>], [width, height]: [u32; 2],
) -> Result<Vec<ObjectBox>, DataError> {
    let mut objects = Vec::new();
    for (i, shape) in shapes.iter().enumerate() {
        let pixels: Vec<u8> = front_of.iter().map(|front| u8::from(*front == Some(i))).collect();
        let shown = pixels.iter().filter(|v| **v == 1).count();
        let runs = RunLengths::of_rows(height, width, &pixels);
        let mask = runs.map(ObjectMask::Runs).map_err(|e| DataError::setting("a generated mask", e, "pixels"))?;
        let Some([left, top, right, bottom]) = mask.bounds().filter(|_| shown >= SEEN.0) else { continue };
        let crowd = (shown as f64) < SEEN.1 * whole[i] as f64;
        objects.push(ObjectBox { left, top, right, bottom, class: shape.class as u32, crowd, mask: Some(mask) });
    }
    Ok(objects)
}

/// Two colors of one hue, in turns, and saturation.
fn material(s: &mut Stream, hue: f64, saturation: f64) -> [[f32; 3]; 2] {
    [(); 2].map(|()| {
        let (hue, value) = (hue + s.range(-0.02, 0.02), s.range(0.45, 1.0));
        let channel = |shift: f64| {
            let k = (shift + 6.0 * hue).rem_euclid(6.0);
            (value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0)) as f32
        };
        [channel(5.0), channel(3.0), channel(1.0)]
    })
}

/// A shape whose center may lie next to the border.
fn shape(s: &mut Stream) -> Shape {
    let class = loop {
        let class = s.below(NAMES.len() as u64) as usize;
        if class != BLOB {
            break class; // it has no outline
        }
    };
    let hue = class as f64 / NAMES.len() as f64 + s.range(-SPREAD, SPREAD);
    let saturation = s.range(0.6, 1.0);
    let own = material(s, hue, saturation);
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

    /// Discs are red, rings green and crosses blue, and the ground is pale.
    #[test]
    fn shapes_have_typical_colors() {
        let set = Dataset::new("scenes", SyntheticScenes::parse("synthetic-scenes:60", Split::Train).unwrap()).unwrap();
        let mut sums = [[0u64; 3]; 11];
        for i in 0..60 {
            let Sample::Segmented(image, map) = set.sample(i).unwrap() else { panic!("scene {i}") };
            for (pixel, class) in image.pixels.as_chunks::<3>().0.iter().zip(map.classes) {
                if let Some(sums) = sums.get_mut(usize::from(class)) {
                    sums.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += u64::from(*v));
                }
            }
        }
        for (class, most) in [(1, 0), (4, 1), (7, 2)] {
            let [own, others @ ..] = [0, 1, 2].map(|c| sums[class][(most + c) % 3]);
            assert!(others.iter().all(|other| 2 * own > 3 * other), "{class}: {:?}", sums[class]);
        }
        let ground = sums[0];
        assert!(ground.iter().all(|v| 4 * v > 3 * ground.iter().max().unwrap()), "{ground:?}");
    }

    #[test]
    fn objects_are_the_shapes_of_the_same_pictures() {
        let open = |objects: bool| match objects {
            true => SyntheticScenes::of_objects("synthetic-objects:40", Split::Train),
            false => SyntheticScenes::parse("synthetic-scenes:40", Split::Train),
        };
        let [objects, scenes] = [true, false].map(|of| Dataset::new("scenes", open(of).unwrap()).unwrap());
        assert_eq!(objects.classes(), &scenes.classes()[1..]);
        let (mut crowds, mut many, mut overlapping) = (0, 0, 0);
        for i in 0..40 {
            let Sample::Segmented(image, map) = scenes.sample(i).unwrap() else { panic!("scene {i}") };
            let Sample::Detected(same, found) = objects.sample(i).unwrap() else { panic!("objects {i}") };
            assert_eq!(image, same);
            many += usize::from(found.len() > 2);
            let mut covered = vec![0; map.classes.len()];
            for object in &found {
                crowds += usize::from(object.crowd);
                let rows = object.mask.as_ref().unwrap().runs(image.height, image.width).unwrap().rows();
                assert_eq!(object.mask.as_ref().unwrap().bounds(), Some(object.corners()));
                for (at, _) in rows.iter().enumerate().filter(|(_, v)| **v == 1) {
                    covered[at] += 1;
                    let class = map.classes[at];
                    assert!(class == SegmentationMap::IGNORED || u32::from(class) == object.class + 1, "{i} {at}");
                }
            }
            assert!(covered.iter().all(|count| *count < 2), "each pixel shows one shape");
            let boxes: Vec<[f64; 4]> = found.iter().map(ObjectBox::corners).collect();
            let near = |a: &[f64; 4], b: &[f64; 4]| crate::models::dense::boxes::overlap(a, b) > 0.0;
            overlapping += usize::from(boxes.iter().enumerate().any(|(i, a)| boxes[..i].iter().any(|b| near(a, b))));
        }
        assert!(crowds > 2 && crowds < 40 && many > 20 && overlapping > 20, "{crowds} {many} {overlapping}");
    }

    #[test]
    fn bad_counts_are_named() {
        for spec in ["synthetic-scenes:", "synthetic-scenes:0", "synthetic-scenes:x"] {
            let error = SyntheticScenes::parse(spec, Split::Train).err().unwrap().to_string();
            assert!(error.contains("synthetic-scenes:N"), "{error}");
        }
    }
}

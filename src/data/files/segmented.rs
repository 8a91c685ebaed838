//! Images with the class of each pixel in PNG files beside them: `images/` and `annotations/`, as ADE20K has them.

use super::decode::decode;
use super::layout::{Found, Layout, Place};
use super::listing::split_of;
use crate::data::sample::{Rgb8, Sample, SegmentationMap};
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// ADE20K's classes, one a line.
const ADE20K: &str = include_str!("../ade20k.txt");
/// The file with the names of classes, one a line.
const NAMES: &str = "classes.txt";
const IMAGES: &str = "images/";
const MAPS: &str = "annotations/";

pub(crate) const LAYOUT: Layout = Layout {
    name: "segmentation folder",
    help: "images/ and annotations/ with a gray or palette PNG for each image, whose values are lines of classes.txt, \
           255 for none; training/ and validation/ in both; or ADEChallengeData2016",
    open,
};

fn open(place: &Place, split: Split) -> Found {
    if !place.is_folder() || !["images", "annotations"].iter().all(|part| place.path.join(part).is_dir()) {
        return Ok(None);
    }
    let below = place.below()?;
    let set = Pairs::of(place.path, &below.images)?;
    Ok(Some(Box::new(set.of_split(split)?)))
}

/// An image and its map.
#[derive(Clone)]
struct Pair {
    image: PathBuf,
    map: PathBuf,
}

/// The pairs of both splits, and the positions of one.
#[derive(Clone)]
struct Pairs {
    root: PathBuf,
    train: Arc<[Pair]>,
    test: Arc<[Pair]>,
    split: Split,
    classes: Arc<[String]>,
    /// Whether 0 is no class, and class k has the value k + 1: ADE20K's `reduce_zero_label`.
    from_one: bool,
}

impl Pairs {
    fn of(root: &Path, files: &[(String, PathBuf)]) -> Result<Self, DataError> {
        let stem = |name: &str| name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned();
        let maps: BTreeMap<String, &PathBuf> =
            files.iter().filter_map(|(name, path)| Some((stem(name.strip_prefix(MAPS)?), path))).collect();
        let (mut train, mut test, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        let mut images: Vec<(&str, &PathBuf)> =
            files.iter().filter_map(|(name, path)| Some((name.strip_prefix(IMAGES)?, path))).collect();
        images.sort_unstable();
        for (name, image) in &images {
            let Some(map) = maps.get(&stem(name)) else {
                missing.push(*name);
                continue;
            };
            let of = name.split_once('/').and_then(|(folder, _)| split_of(folder));
            let list = if matches!(of, Some((Split::Test, _))) { &mut test } else { &mut train };
            list.push(Pair { image: (*image).clone(), map: (*map).clone() });
        }
        if let Some(first) = missing.first() {
            tracing::warn!(
                "{}: {} images without annotation are passed over, first {first}",
                root.display(),
                missing.len()
            );
        }
        if train.is_empty() && test.is_empty() {
            let message =
                format!("{} images and {} annotations, of which none have one name", images.len(), maps.len());
            return Err(DataError::format(root, message));
        }
        let is_ade = images.iter().all(|(name, _)| name.rsplit('/').next().unwrap_or(name).starts_with("ADE_"));
        let (classes, from_one) = classes(root, is_ade)?;
        Ok(Self {
            root: root.to_owned(),
            train: train.into(),
            test: test.into(),
            split: Split::Train,
            classes,
            from_one,
        })
    }

    fn of_split(self, split: Split) -> Result<Self, DataError> {
        let set = Self { split, ..self };
        if set.pairs().is_empty() {
            let found = format!("{} images of the other split", set.train.len() + set.test.len());
            return Err(DataError::NoSplit { path: set.root, split: split.name(), found });
        }
        Ok(set)
    }

    fn pairs(&self) -> &[Pair] {
        match self.split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }
}

/// Names of the classes, and whether their values begin with 1: from the file beside the images, or ADE20K's.
fn classes(root: &Path, is_ade: bool) -> Result<(Arc<[String]>, bool), DataError> {
    let path = root.join(NAMES);
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let found = match fs::read_to_string(&path) {
        Ok(text) => lines(&text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && is_ade => lines(ADE20K),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let message = "no such file, expected the names of the classes, one a line, in the order of their values";
            return Err(DataError::format(&path, message.to_owned()));
        }
        Err(e) => return Err(DataError::io("read", &path)(e)),
    };
    if !(1..=255).contains(&found.len()) {
        return Err(DataError::format(&path, format!("names {} classes, expected 1 to 255", found.len())));
    }
    Ok((found.into(), is_ade))
}

impl Source for Pairs {
    fn len(&self) -> usize {
        self.pairs().len()
    }

    fn test_split(&self) -> Option<Result<Box<dyn Source>, DataError>> {
        Some(self.clone().of_split(Split::Test).map(|set| Box::new(set) as Box<dyn Source>))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        self.pairs()[index].image.display().to_string()
    }

    fn image(&self, index: usize) -> Result<Rgb8, DataError> {
        let path = &self.pairs()[index].image;
        decode(&path.display().to_string(), &fs::read(path).map_err(DataError::io("read", path))?)
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let path = &self.pairs()[index].map;
        let bytes = fs::read(path).map_err(DataError::io("read", path))?;
        let (width, height, values) = indices(&path.display().to_string(), &bytes)?;
        let class = |value: u8| match value {
            255 => SegmentationMap::IGNORED,
            value if self.from_one => u16::from(value).checked_sub(1).unwrap_or(SegmentationMap::IGNORED),
            value => u16::from(value),
        };
        let map = SegmentationMap { width, height, classes: values.into_iter().map(class).collect() };
        Ok(Sample::Segmented(self.image(index)?, map))
    }
}

/// The values of a PNG of one channel: width, height, and a byte for each pixel. Of a palette the index counts, not the
/// color.
pub(crate) fn indices(name: &str, bytes: &[u8]) -> Result<(u32, u32, Vec<u8>), DataError> {
    let failed = |reason: String| DataError::Decode { name: name.to_owned(), reason };
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(|e| failed(format!("no PNG of classes: {e}")))?;
    let (width, height) = (reader.info().width, reader.info().height);
    let (kind, depth) = (reader.info().color_type, reader.info().bit_depth as usize);
    if !matches!(kind, png::ColorType::Grayscale | png::ColorType::Indexed) || depth > 8 {
        let expected = "expected one channel of up to 8 bits: the number of the class of each pixel";
        return Err(failed(format!("is {kind:?} of {depth} bits, {expected}")));
    }
    let size = reader.output_buffer_size().ok_or_else(|| failed(format!("is {width} × {height} pixels")))?;
    let mut packed = vec![0; size];
    let frame = reader.next_frame(&mut packed).map_err(|e| failed(e.to_string()))?;
    let mask = ((1u16 << depth) - 1) as u8;
    let value = |i: usize| {
        let (row, bit) = (i / width as usize, i % width as usize * depth);
        packed[row * frame.line_size + bit / 8] >> (8 - depth - bit % 8) & mask
    };
    Ok((width, height, (0..width as usize * height as usize).map(value).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Dataset;
    use crate::data::testing::{png, put};

    /// A PNG of indices; a palette of as many colors as given.
    fn map(width: u32, height: u32, depth: png::BitDepth, palette: Option<&[u8]>, packed: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_depth(depth);
        encoder.set_color(if palette.is_some() { png::ColorType::Indexed } else { png::ColorType::Grayscale });
        if let Some(palette) = palette {
            encoder.set_palette(palette.to_vec());
        }
        encoder.write_header().unwrap().write_image_data(packed).unwrap();
        bytes
    }

    fn class_of(set: &Dataset, i: usize) -> Vec<u16> {
        let Sample::Segmented(_, map) = set.sample(i).unwrap() else { panic!("no map") };
        map.classes
    }

    #[test]
    fn pairs_by_stem_with_splits_and_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, color) in [("training/b", [1, 2, 3]), ("training/a", [4, 5, 6]), ("validation/c", [7, 8, 9])] {
            put(&at(&format!("images/{name}.png")), &png(2, 1, color));
        }
        put(&at("images/training/alone.png"), &png(2, 1, [0; 3]));
        put(&at("annotations/training/a.png"), &map(2, 1, png::BitDepth::Eight, None, &[1, 255]));
        let palette = [[9, 9, 9], [200, 0, 0], [0, 200, 0]].concat();
        put(&at("annotations/training/b.png"), &map(2, 1, png::BitDepth::Two, Some(&palette), &[0b1001_0000]));
        put(&at("annotations/validation/c.png"), &map(2, 1, png::BitDepth::Eight, None, &[0, 3]));
        let spec = dir.path().to_str().unwrap();
        let error = Dataset::open(spec, Split::Train).unwrap_err().to_string();
        assert!(error.contains("classes.txt") && error.contains("one a line"), "{error}");
        put(&at("classes.txt"), b"ground\nroad\n\nsky\n");
        let set = Dataset::open(spec, Split::Train).unwrap();
        assert_eq!((set.len(), set.classes()), (2, &["ground", "road", "sky"].map(String::from)[..]));
        assert_eq!(class_of(&set, 0), [1, SegmentationMap::IGNORED]);
        assert_eq!(class_of(&set, 1), [2, 1], "the index of a palette, not its color");
        assert_eq!(set.image(0).unwrap().pixels[..3], [4, 5, 6]);
        let test = set.test_split().unwrap();
        assert_eq!(test.len(), 1);
        let error = test.sample(0).unwrap_err().to_string();
        assert!(error.contains("c.png") && error.contains("class 3, the set has 3 classes"), "{error}");
        put(&at("annotations/validation/c.png"), &png(2, 1, [1, 2, 3]));
        let error = test.sample(0).unwrap_err().to_string();
        assert!(error.contains("Rgb of 8 bits") && error.contains("one channel"), "{error}");
        put(&at("annotations/validation/c.png"), &map(1, 1, png::BitDepth::Eight, None, &[0]));
        let error = test.sample(0).unwrap_err().to_string();
        assert!(error.contains("1 × 1 pixels, its image has 2 × 1"), "{error}");
    }

    #[test]
    fn ade20k_counts_from_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        put(&at("images/training/ADE_train_00000001.png"), &png(2, 2, [1, 2, 3]));
        put(
            &at("annotations/training/ADE_train_00000001.png"),
            &map(2, 2, png::BitDepth::Eight, None, &[0, 1, 150, 255]),
        );
        let set = Dataset::open(dir.path().to_str().unwrap(), Split::Train).unwrap();
        assert_eq!((set.classes().len(), &*set.classes()[0], &*set.classes()[149]), (150, "wall", "flag"));
        assert_eq!(class_of(&set, 0), [SegmentationMap::IGNORED, 0, 149, SegmentationMap::IGNORED]);
        let error = set.test_split().unwrap_err().to_string();
        assert!(error.contains("no test split"), "{error}");
    }
}

//! Images with the class of each pixel in PNG files beside them: `images/` and `annotations/`, as ADE20K has them.

use super::decode::decode;
use super::layout::{Found, Layout, Place};
use super::listing::split_of;
use super::pixel_classes::Classes;
use super::tree::Tree;
use crate::data::labels::PixelLabels;
use crate::data::sample::{Rgb8, Sample, SegmentationMap};
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const IMAGES: &str = "images/";
const MAPS: &str = "annotations/";

pub(crate) const LAYOUT: Layout = Layout {
    name: "segmentation folder",
    help: "images/ and annotations/ with a gray or palette PNG for each image, whose values are lines of classes.txt, \
           255 for none, or one of the colors of label_colors.txt; training/ and validation/ in both; or \
           ADEChallengeData2016",
    open,
};

fn open(place: &Place, split: Split) -> Found {
    if !place.is_folder() || !is_set(&Tree::disk(), place.path) {
        return Ok(None);
    }
    let below = place.below()?;
    let set = Pairs::of(&Tree::disk(), place.path, &below.images, place.labels())?;
    Ok(Some(Box::new(set.of_split(split)?)))
}

/// The set in a folder of an archive.
pub(super) fn in_tree(tree: &Tree, root: &Path, split: Split, place: &Place) -> Found {
    if !is_set(tree, root) {
        return Ok(None);
    }
    let set = Pairs::of(tree, root, &tree.images(root), place.labels())?;
    Ok(Some(Box::new(set.of_split(split)?)))
}

fn is_set(tree: &Tree, root: &Path) -> bool {
    ["images", "annotations"].iter().all(|part| tree.is_dir(&root.join(part)))
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
    tree: Tree,
    root: PathBuf,
    train: Arc<[Pair]>,
    test: Arc<[Pair]>,
    split: Split,
    classes: Arc<Classes>,
}

impl Pairs {
    fn of(tree: &Tree, root: &Path, files: &[(String, PathBuf)], labels: &PixelLabels) -> Result<Self, DataError> {
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
        let classes = Classes::of(tree, root, is_ade, labels)?.into();
        let (tree, root) = (tree.clone(), root.to_owned());
        Ok(Self { tree, root, train: train.into(), test: test.into(), split: Split::Train, classes })
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

impl Source for Pairs {
    fn len(&self) -> usize {
        self.pairs().len()
    }

    fn test_split(&self) -> Option<Result<Box<dyn Source>, DataError>> {
        Some(self.clone().of_split(Split::Test).map(|set| Box::new(set) as Box<dyn Source>))
    }

    fn classes(&self) -> &[String] {
        &self.classes.names
    }

    fn name(&self, index: usize) -> String {
        self.pairs()[index].image.display().to_string()
    }

    fn image(&self, index: usize) -> Result<Rgb8, DataError> {
        let path = &self.pairs()[index].image;
        decode(&path.display().to_string(), &self.tree.read(path)?)
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let path = &self.pairs()[index].map;
        let bytes = self.tree.read(path)?;
        let (width, height, classes) = self.classes.read(&path.display().to_string(), &bytes)?;
        let map = SegmentationMap { width, height, classes };
        Ok(Sample::Segmented(self.image(index)?, map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Dataset;
    use crate::data::testing::{png, put};

    const IGNORED: u16 = SegmentationMap::IGNORED;

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
        assert!(
            error.contains("c.png") && error.contains("the pixel 1, 0 has the value 3, expected 0 to 2, or 255"),
            "{error}"
        );
        put(&at("annotations/validation/c.png"), &png(2, 1, [1, 2, 3]));
        let error = test.sample(0).unwrap_err().to_string();
        assert!(error.contains("Rgb of 8 bits") && error.contains("one channel"), "{error}");
        put(&at("annotations/validation/c.png"), &map(1, 1, png::BitDepth::Eight, None, &[0]));
        let error = test.sample(0).unwrap_err().to_string();
        assert!(error.contains("1 × 1 pixels, its image has 2 × 1"), "{error}");
    }

    /// A set of two images of 2 × 1 pixels with these annotations.
    fn two(maps: [Vec<u8>; 2]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, map) in ["a", "b"].iter().zip(maps) {
            put(&dir.path().join(format!("images/{name}.png")), &png(2, 1, [1; 3]));
            put(&dir.path().join(format!("annotations/{name}.png")), &map);
        }
        dir
    }

    #[test]
    fn classes_are_counted_and_shifted_on_request() {
        let gray = |values: [u8; 2]| map(2, 1, png::BitDepth::Eight, None, &values);
        let dir = two([gray([0, 3]), gray([4, 255])]);
        let open = |labels: &PixelLabels| Dataset::open_labeled(dir.path().to_str().unwrap(), Split::Train, labels);
        let plain = PixelLabels { num_classes: Some(4), ..PixelLabels::default() };
        let set = open(&plain).unwrap();
        assert_eq!(set.classes(), ["class 0", "class 1", "class 2", "class 3"]);
        assert_eq!(class_of(&set, 0), [0, 3]);
        let error = set.sample(1).unwrap_err().to_string();
        for words in ["annotations/b.png", "the pixel 0, 0 has the value 4", "0 to 3, or 255 for no class", "4 classes"]
        {
            assert!(error.contains(words), "{error}");
        }
        let shifted = PixelLabels { reduce_zero_label: Some(true), ..plain.clone() };
        let set = open(&shifted).unwrap();
        assert_eq!((class_of(&set, 0), class_of(&set, 1)), (vec![IGNORED, 2], vec![3, IGNORED]));
        let set = open(&PixelLabels { num_classes: Some(3), ..shifted }).unwrap();
        let error = set.sample(1).unwrap_err().to_string();
        assert!(error.contains("value 4, expected 1 to 3, or 0 or 255 for no class"), "{error}");
        put(&dir.path().join("classes.txt"), b"sky\nsea\n");
        let error = open(&plain).unwrap_err().to_string();
        assert!(
            error.contains("num_classes") && error.contains("is 4, expected 2, as") && error.contains("classes.txt")
        );
        // sets without maps do not ask
        let error = Dataset::open_labeled("synthetic:8", Split::Train, &plain).unwrap_err().to_string();
        assert!(error.contains("num_classes") && error.contains("synthetic:8"), "{error}");
    }

    #[test]
    fn colors_are_classes_by_a_table_and_indices_count_without_one() {
        let colors = |pixels: &[[u8; 3]; 2]| {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
            encoder.set_color(png::ColorType::Rgb);
            encoder.write_header().unwrap().write_image_data(pixels.as_flattened()).unwrap();
            bytes
        };
        let (road, sky, void, other) = ([128, 64, 128], [70, 130, 180], [0, 0, 0], [1, 2, 3]);
        // a palette of the table's colors the other way round: the index counts
        let palette = map(2, 1, png::BitDepth::Eight, Some(&[sky, road].concat()), &[0, 1]);
        let dir = two([colors(&[sky, void]), palette]);
        let spec = dir.path().to_str().unwrap();
        put(&dir.path().join("label_colors.txt"), b"128 64 128 road\n0 0 0 void\n70 130 180 sky\n");
        let set = Dataset::open(spec, Split::Train).unwrap();
        assert_eq!(set.classes(), ["road", "sky"]);
        assert_eq!((class_of(&set, 0), class_of(&set, 1)), (vec![1, IGNORED], vec![0, 1]));
        put(&dir.path().join("annotations/a.png"), &colors(&[road, other]));
        let error = set.sample(0).unwrap_err().to_string();
        assert!(error.contains("annotations/a.png") && error.contains("the pixel 1, 0 has the color 1 2 3"), "{error}");
        let reduced = PixelLabels { reduce_zero_label: Some(true), ..PixelLabels::default() };
        let error = Dataset::open_labeled(spec, Split::Train, &reduced).unwrap_err().to_string();
        assert!(error.contains("reduce_zero_label") && error.contains("void"), "{error}");
        put(&dir.path().join("classes.txt"), b"sky\nroad\n");
        let error = Dataset::open(spec, Split::Train).unwrap_err().to_string();
        assert!(error.contains("classes.txt") && error.contains("label_colors.txt"), "{error}");
        // a table elsewhere takes the place of that in the set
        put(&dir.path().join("elsewhere/t.json"), br#"{"sky": [70, 130, 180], "road": [128, 64, 128]}"#);
        let table = PixelLabels { color_table: Some(dir.path().join("elsewhere/t.json")), ..PixelLabels::default() };
        put(&dir.path().join("annotations/a.png"), &colors(&[road, sky]));
        let set = Dataset::open_labeled(spec, Split::Train, &table).unwrap();
        assert_eq!(class_of(&set, 0), [1, 0]);
        let gone = PixelLabels { color_table: Some("nowhere.txt".into()), ..PixelLabels::default() };
        let error = Dataset::open_labeled(spec, Split::Train, &gone).unwrap_err().to_string();
        assert!(error.contains("nowhere.txt"), "{error}");
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

//! The table of layouts, and the opening of a set by trying each.

use super::cifar;
use super::cloud_sets;
use super::coco;
use super::folder;
use super::generated;
use super::idx;
use super::layout::{Layout, Place};
use super::list;
use super::parquet;
use super::segmented;
use super::tar;
use super::webdataset;
use super::zip;
use crate::data::dataset::Dataset;
use crate::data::labels::PixelLabels;
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;

/// Every layout, in the order in which they are tried: the first that fits opens the set. A folder of images comes last
/// because any folder fits it.
///
/// Error messages, the help of `--data`, the documentation of [`Dataset::open`] and src/data/README.md list what is in
/// here.
pub const LAYOUTS: &[Layout] = &[
    generated::LAYOUT,
    generated::CLOUDS,
    generated::SCENES,
    generated::OBJECTS,
    cifar::LAYOUT,
    idx::LAYOUT,
    list::LAYOUT,
    parquet::LAYOUT,
    webdataset::LAYOUT,
    tar::LAYOUT,
    zip::LAYOUT,
    cloud_sets::LAYOUT,
    coco::LAYOUT,
    segmented::LAYOUT,
    folder::LAYOUT,
];

impl Dataset {
    /// Opens one split of the set that `spec` names.
    ///
    /// - synthetic\[:N\]: N generated images (2048) of 96 × 96 pixels in ten classes; N / 4 in the test split
    /// - synthetic-clouds\[:N\]: N generated point clouds (2048) of solids in twelve classes; N / 4 in the test split
    /// - synthetic-scenes\[:N\]: N generated scenes (2048) of several shapes with the class of each pixel; N / 4 in the
    ///   test split
    /// - synthetic-objects\[:N\]: N generated scenes (2048) of several shapes with box and mask of each; N / 4 in the
    ///   test split
    /// - CIFAR: CIFAR-10 or CIFAR-100 in the binary version: the folder or one .bin file
    /// - IDX: IDX files as of MNIST and Fashion-MNIST: the folder or one *-images-idx3-ubyte[.gz], labels beside it
    /// - list: a .txt, .lst, .tsv or .csv file with the path of an image and its class on each line, or a path alone;
    ///   val.txt or test.txt beside train.txt is the test split
    /// - Parquet: a folder of .parquet files, a pattern such as 'train-{00000..00004}-of-00005.parquet', or one file,
    ///   with a column of encoded images and one of classes
    /// - WebDataset: a folder of .tar shards, a pattern such as 'train-{000000..000146}.tar', or one shard, with .cls
    ///   or .json beside each image
    /// - tar: a .tar, .tar.gz or .tar.xz of an image folder, a segmentation folder or a folder like COCO; a compressed
    ///   one is unpacked to a temporary file
    /// - zip: a .zip of an image folder, a segmentation folder or a folder like COCO, read in place
    /// - point clouds: modelnet40_normal_resampled, ShapeNet55-34, or a folder of .off, .ply, .obj, .stl, .npy, .xyz or
    ///   .pts per class, as images lie
    /// - COCO: annotations/instances_train2017.json and train2017/, and the same of val2017; or any .json of that form,
    ///   with its images beside it or in images/
    /// - segmentation folder: images/ and annotations/ with a gray or palette PNG for each image, whose values are
    ///   lines of classes.txt, 255 for none, or one of the colors of label_colors.txt; training/ and validation/ in
    ///   both; or ADEChallengeData2016
    /// - image folder: one folder of images per class; the same below train/ and val/ or test/; or flat, with labels if
    ///   every name starts like n01440764_1.jpg
    ///
    /// Samples are sorted by path. A single file and a folder without `train/`, `val/` or `test/` is all train; asking
    /// it for the test split is [`DataError::NoSplit`].
    ///
    /// # Errors
    /// What lies there has none of the layouts, or cannot be read.
    pub fn open(spec: &str, split: Split) -> Result<Self, DataError> {
        Self::open_labeled(spec, split, &PixelLabels::default())
    }

    /// [`Dataset::open`] with what the values of segmentation maps mean, where the set does not say it.
    ///
    /// # Errors
    /// Those of [`Dataset::open`]; [`DataError::Setting`] for another number of classes than the set names, and where
    /// the set has no maps.
    pub fn open_labeled(spec: &str, split: Split, labels: &PixelLabels) -> Result<Self, DataError> {
        let place = Place::of(spec, labels.clone());
        let set = Self::from_source(spec, source(&place, split)?.into())?;
        place.expect_asked()?;
        tracing::debug!("opened {spec}, {split} split: {} samples", set.len());
        Ok(Self { opened: true, split: Some(split), ..set })
    }

    /// The test split of the set that this is the train split of: all of it, also where this one is
    /// [limited](Dataset::limited). An archive is not unpacked a second time.
    ///
    /// # Errors
    /// [`DataError::NoSplit`]; those of [`Dataset::open`].
    pub fn test_split(&self) -> Result<Self, DataError> {
        match self.source.test_split() {
            Some(source) => Ok(Self { split: Some(Split::Test), ..Self::from_source(self.spec(), source?.into())? }),
            None if self.opened => Self::open(self.spec(), Split::Test),
            None => {
                let found = "its source offers the train split only".to_owned();
                Err(DataError::NoSplit { path: self.spec().into(), split: Split::Test.name(), found })
            }
        }
    }
}

/// The names of all layouts, for the help of an option.
pub fn layout_names() -> String {
    let names: Vec<&str> = LAYOUTS.iter().map(|layout| layout.name).collect();
    names.join(", ")
}

/// What each layout is, for error messages.
fn understood() -> String {
    let all: Vec<String> = LAYOUTS.iter().map(|layout| format!("{} ({})", layout.name, layout.help)).collect();
    format!("understood are: {}", all.join("; "))
}

/// Endings of archives and tables that people have images in, and that no layout reads.
const UNREAD: &[&str] = &[".xz", ".bz2", ".tbz2", ".zst", ".7z", ".rar", ".npz", ".npy"];

fn source(place: &Place, split: Split) -> Result<Box<dyn Source>, DataError> {
    for layout in LAYOUTS {
        match (layout.open)(place, split) {
            Ok(None) => {}
            Ok(Some(source)) => return Ok(source),
            Err(DataError::Empty { path, .. }) => return Err(DataError::Empty { path, layouts: understood() }),
            Err(other) => return Err(other),
        }
    }
    let (path, name) = (place.path.to_owned(), place.file_name());
    match &place.metadata {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(DataError::Missing { path, layouts: understood() }),
        Err(e) => Err(DataError::io("open", place.path)(std::io::Error::new(e.kind(), e.to_string()))),
        Ok(_) if UNREAD.iter().any(|ending| name.ends_with(ending)) => {
            let what = format!("a .{} file, which is not read", name.rsplit('.').next().unwrap_or_default());
            let advice = "unpack it and give the folder, or repack it as .tar".to_owned();
            Err(DataError::Unsupported { path, what, advice })
        }
        Ok(_) => {
            let what = "a file of no known layout".to_owned();
            Err(DataError::Unsupported { path, what, advice: understood() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::put;
    use std::path::Path;

    fn error(path: &Path) -> String {
        source(&Place::of(path.to_str().unwrap(), PixelLabels::default()), Split::Train).err().unwrap().to_string()
    }

    #[test]
    fn what_cannot_be_opened_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let missing = error(&dir.path().join("nowhere"));
        assert!(missing.contains("no data set at") && missing.contains("nowhere") && missing.contains("synthetic[:N]"));
        let empty = error(dir.path());
        assert!(empty.contains("no images in") && empty.contains("CIFAR-10"), "{empty}");
        for (name, hint) in [
            ("a.tar.bz2", "unpack it"),
            ("a.zip", "not a whole zip"),
            ("a.7z", "unpack it"),
            ("a.txt", "understood are"),
        ] {
            put(&dir.path().join(name), b"x");
            let text = error(&dir.path().join(name));
            assert!(text.contains(name) && text.contains(hint), "{text}");
        }
        for layout in LAYOUTS {
            assert!(missing.contains(layout.name) && missing.contains(layout.help), "{}: {missing}", layout.name);
        }
    }

    /// Lines as one, each space a single one.
    fn unwrapped<'a>(lines: impl Iterator<Item = &'a str>) -> String {
        lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_list_of_layouts_is_this_table() {
        let items = LAYOUTS.iter().map(|layout| format!("- {}: {}", layout.name, layout.help)).collect::<Vec<_>>();
        let docs = include_str!("layouts.rs").lines().filter_map(|line| line.trim().strip_prefix("/// "));
        let docs = unwrapped(docs).replace('\\', ""); // rustdoc takes brackets for links
        let readme = unwrapped(include_str!("../README.md").lines());
        let all = items.join(" ");
        assert!(docs.contains(&all), "the documentation of Dataset::open says otherwise:\n{all}");
        assert!(readme.contains(&all), "src/data/README.md says otherwise:\n{all}");
    }
}

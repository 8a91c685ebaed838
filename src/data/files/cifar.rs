//! CIFAR-10 and CIFAR-100 in their binary version. The files are held in memory as they are: 154 MB for the train
//! split.
use super::layout::{Found, Layout, Place};
use crate::data::sample::{Rgb8, Sample};
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;
use std::fs;
use std::path::{Path, PathBuf};

/// The two CIFAR sets.
pub(crate) const LAYOUT: Layout =
    Layout { name: "CIFAR", help: "CIFAR-10 or CIFAR-100 in the binary version: the folder or one .bin file", open };

fn open(place: &Place, split: Split) -> Found {
    let found = if place.is_folder() {
        Cifar::find(place.path, split)?
    } else if place.is_file_named(|name| name.ends_with(".bin")) {
        Some(Cifar::open_file(place.path, split)?)
    } else {
        None
    };
    Ok(found.map(|set| Box::new(set) as Box<dyn Source>))
}

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;
const CIFAR10: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Which of the two sets. In both, a record is label bytes and then 1024 red, 1024 green and 1024 blue bytes. CIFAR-10
/// has one label byte, CIFAR-100 a coarse and then a fine class, of which the fine one is the label.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ten,
    Hundred,
}

impl Kind {
    fn label_bytes(self) -> usize {
        match self {
            Self::Ten => 1,
            Self::Hundred => 2,
        }
    }

    fn record(self) -> usize {
        self.label_bytes() + 3 * PIXELS
    }

    fn classes(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::Hundred => 100,
        }
    }
}

/// One split of a CIFAR set.
pub(crate) struct Cifar {
    kind: Kind,
    files: Vec<(PathBuf, usize)>,
    records: Vec<u8>,
    classes: Vec<String>,
}

impl Cifar {
    /// Opens the set in `dir`, or in the folder inside `dir` that the official archive makes; `None` if there is none.
    pub fn find(dir: &Path, split: Split) -> Result<Option<Self>, DataError> {
        let mut found: Vec<(PathBuf, Kind)> = Vec::new();
        for (sub, kind) in [
            ("", Kind::Ten),
            ("cifar-10-batches-bin", Kind::Ten),
            ("", Kind::Hundred),
            ("cifar-100-binary", Kind::Hundred),
        ] {
            let dir = if sub.is_empty() { dir.to_owned() } else { dir.join(sub) };
            let (train, test) = of_splits(&dir, kind);
            if !train.is_empty() || !test.is_empty() {
                found.push((dir, kind));
            }
        }
        let Some((place, kind)) = found.first() else { return Ok(None) };
        if let Some((other, _)) = found.get(1) {
            let message = format!("holds several sets ({}, {}): give one of them", place.display(), other.display());
            return Err(DataError::format(dir, message));
        }
        let (train, test) = of_splits(place, *kind);
        let files = match split {
            Split::Train => train,
            Split::Test => test,
        };
        if files.is_empty() {
            let found = "found only the files of the other split".to_owned();
            return Err(DataError::NoSplit { path: place.clone(), split: split.name(), found });
        }
        if *kind == Kind::Ten && split == Split::Train && files.len() < 5 {
            tracing::warn!("{}: {} of the 5 files data_batch_1.bin to data_batch_5.bin", place.display(), files.len());
        }
        Self::read(*kind, &files, place).map(Some)
    }

    /// Opens one `.bin` file. Its size tells CIFAR-10 from CIFAR-100.
    pub fn open_file(path: &Path, split: Split) -> Result<Self, DataError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if split == Split::Test && !name.contains("test") {
            let found = "it is a single file that is not named test".to_owned();
            return Err(DataError::NoSplit { path: path.to_owned(), split: split.name(), found });
        }
        let size = fs::metadata(path).map_err(DataError::io("look at", path))?.len();
        let fits = |kind: &Kind| size > 0 && size % kind.record() as u64 == 0;
        let Some(kind) = [Kind::Ten, Kind::Hundred].into_iter().find(fits) else {
            let message = format!("is {size} bytes, expected a multiple of 3073 (CIFAR-10) or 3074 (CIFAR-100)");
            return Err(DataError::format(path, message));
        };
        Self::read(kind, &[path.to_owned()], path.parent().unwrap_or(Path::new("")))
    }

    fn read(kind: Kind, paths: &[PathBuf], dir: &Path) -> Result<Self, DataError> {
        let (mut records, mut files) = (Vec::new(), Vec::new());
        for path in paths {
            let bytes = fs::read(path).map_err(DataError::io("read", path))?;
            if bytes.is_empty() || bytes.len() % kind.record() != 0 {
                let message = format!("is {} bytes, expected a multiple of {}", bytes.len(), kind.record());
                return Err(DataError::format(path, message));
            }
            for (i, record) in bytes.chunks_exact(kind.record()).enumerate() {
                let label = usize::from(record[kind.label_bytes() - 1]);
                if label >= kind.classes() {
                    let message = format!("record {i} has label {label}, expected less than {}", kind.classes());
                    return Err(DataError::format(path, message));
                }
            }
            files.push((path.clone(), bytes.len() / kind.record()));
            records.extend(bytes);
        }
        Ok(Self { kind, files, records, classes: class_names(kind, dir) })
    }

    fn record(&self, index: usize) -> Option<&[u8]> {
        let size = self.kind.record();
        self.records.get(index.checked_mul(size)?..)?.get(..size)
    }
}

/// The files of the train and of the test split that exist in `dir`, sorted.
fn of_splits(dir: &Path, kind: Kind) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let there = |names: &[&str]| names.iter().map(|n| dir.join(n)).filter(|p| p.is_file()).collect::<Vec<_>>();
    match kind {
        Kind::Ten => {
            let train = ["1", "2", "3", "4", "5"].map(|n| format!("data_batch_{n}.bin"));
            (there(&train.each_ref().map(String::as_str)), there(&["test_batch.bin"]))
        }
        Kind::Hundred => (there(&["train.bin"]), there(&["test.bin"])),
    }
}

/// Class names: of CIFAR-100 from the text file that comes with it, or numbers if that is missing.
fn class_names(kind: Kind, dir: &Path) -> Vec<String> {
    if kind == Kind::Ten {
        return CIFAR10.map(str::to_owned).to_vec();
    }
    let listed = fs::read_to_string(dir.join("fine_label_names.txt")).unwrap_or_default();
    let names: Vec<String> = listed.split_whitespace().map(str::to_owned).collect();
    if names.len() == kind.classes() { names } else { (0..kind.classes()).map(|i| i.to_string()).collect() }
}

impl Source for Cifar {
    fn len(&self) -> usize {
        self.records.len() / self.kind.record()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some(u32::from(self.record(index)?[self.kind.label_bytes() - 1]))
    }

    fn name(&self, index: usize) -> String {
        let mut record = index;
        for (path, count) in &self.files {
            if record < *count {
                return format!("{}: record {record}", path.display());
            }
            record -= count;
        }
        format!("record {index}")
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let past_end = || DataError::Decode { name: self.name(index), reason: "is past the end".into() };
        let planes = &self.record(index).ok_or_else(past_end)?[self.kind.label_bytes()..];
        let pixels = (0..PIXELS).flat_map(|p| [planes[p], planes[PIXELS + p], planes[2 * PIXELS + p]]).collect();
        Ok(Rgb8 { width: SIDE as u32, height: SIDE as u32, pixels }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Dataset;
    use crate::data::testing::put;

    /// A record with the given label bytes and one color.
    fn record(labels: &[u8], rgb: [u8; 3]) -> Vec<u8> {
        let planes = rgb.iter().flat_map(|&c| std::iter::repeat_n(c, PIXELS));
        labels.iter().copied().chain(planes).collect()
    }

    fn open(path: &Path, split: Split) -> Result<Dataset, DataError> {
        Dataset::open(path.to_str().unwrap(), split)
    }

    #[test]
    fn cifar10_folder() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("cifar-10-batches-bin");
        put(&bin.join("data_batch_1.bin"), &[record(&[3], [1, 2, 3]), record(&[9], [4, 5, 6])].concat());
        put(&bin.join("data_batch_2.bin"), &record(&[0], [7, 8, 9]));
        for root in [dir.path(), &bin] {
            let set = open(root, Split::Train).unwrap();
            assert_eq!((set.len(), set.classes()[9].as_str()), (3, "truck"));
            assert_eq!((0..4).map(|i| set.label(i)).collect::<Vec<_>>(), [Some(3), Some(9), Some(0), None]);
            assert_eq!(set.image(2).unwrap().pixels[..6], [7, 8, 9, 7, 8, 9]);
            assert!(set.sample_name(2).ends_with("data_batch_2.bin: record 0"));
            assert!(matches!(open(root, Split::Test), Err(DataError::NoSplit { .. })));
        }
        put(&bin.join("test_batch.bin"), &record(&[1], [0; 3]));
        assert_eq!(open(&bin.join("test_batch.bin"), Split::Test).unwrap().len(), 1);
        assert_eq!(open(dir.path(), Split::Test).unwrap().label(0), Some(1));
    }

    #[test]
    fn two_sets_in_a_folder_are_not_mistaken_for_one() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("cifar-10-batches-bin/data_batch_1.bin"), &record(&[3], [1, 2, 3]));
        put(&dir.path().join("cifar-100-binary/train.bin"), &record(&[1, 3], [1, 2, 3]));
        let error = open(dir.path(), Split::Train).unwrap_err().to_string();
        assert!(error.contains("several sets") && error.contains("cifar-100-binary"), "{error}");
        assert_eq!(open(&dir.path().join("cifar-100-binary"), Split::Train).unwrap().classes().len(), 100);
    }

    #[test]
    fn cifar100_uses_the_fine_label() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("train.bin"), &record(&[19, 99], [1, 2, 3]));
        let set = open(dir.path(), Split::Train).unwrap();
        assert_eq!((set.label(0), set.classes().len()), (Some(99), 100));
        assert_eq!(open(&dir.path().join("train.bin"), Split::Train).unwrap().label(0), Some(99));
    }

    #[test]
    fn wrong_sizes_and_labels_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data_batch_1.bin");
        put(&path, &[record(&[3], [0; 3]), record(&[10], [0; 3])].concat());
        let error = open(&path, Split::Train).unwrap_err().to_string();
        assert!(error.contains("record 1 has label 10"), "{error}");
        put(&path, &record(&[3], [0; 3])[..3000]);
        for place in [&path, dir.path()] {
            let error = open(place, Split::Train).unwrap_err().to_string();
            assert!(error.contains("3000 bytes") && error.contains("3073"), "{error}");
        }
    }
}

//! IDX files, the format of MNIST and Fashion-MNIST: gray images of one size, held in memory as they are.
use super::layout::{Found, Layout, Place};
use crate::data::sample::{Rgb8, Sample};
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// MNIST and its relatives.
pub(crate) const LAYOUT: Layout = Layout {
    name: "IDX",
    help: "IDX files as of MNIST and Fashion-MNIST: the folder or one *-images-idx3-ubyte[.gz], labels beside it",
    open,
};

fn open(place: &Place, split: Split) -> Found {
    let found = if place.is_folder() {
        Idx::find(place.path, split)?
    } else if place.is_file_named(is_images_name) {
        Some(Idx::open_file(place.path, split)?)
    } else {
        None
    };
    Ok(found.map(|set| Box::new(set) as Box<dyn Source>))
}

/// One split of an IDX set.
pub(crate) struct Idx {
    path: PathBuf,
    width: usize,
    height: usize,
    gray: Vec<u8>,
    labels: Vec<u32>,
    classes: Vec<String>,
}

/// Whether a file is named like IDX images: `train-images-idx3-ubyte`, `train-images.idx3-ubyte`, either with `.gz`.
pub(crate) fn is_images_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let stem = name.strip_suffix(".gz").unwrap_or(&name);
    stem.contains("images") && stem.ends_with("idx3-ubyte")
}

fn is_test_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    name.contains("t10k") || name.contains("test")
}

impl Idx {
    /// Opens one split in `dir`; `None` if there are no IDX files.
    pub fn find(dir: &Path, split: Split) -> Result<Option<Self>, DataError> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(DataError::io("read the folder", dir))? {
            let path = entry.map_err(DataError::io("read the folder", dir))?.path();
            if is_images_name(&path.file_name().unwrap_or_default().to_string_lossy()) && path.is_file() {
                found.push(path);
            }
        }
        if found.is_empty() {
            return Ok(None);
        }
        found.sort();
        found.dedup_by_key(|path| one_form(path)); // the same file, once more compressed
        let of_split = |path: &&PathBuf| is_test_name(path) == (split == Split::Test);
        match found.iter().filter(of_split).collect::<Vec<_>>()[..] {
            [path] => Self::read(path).map(Some),
            [] => {
                let found = format!("found only {}", found[0].display());
                Err(DataError::NoSplit { path: dir.to_owned(), split: split.name(), found })
            }
            [first, second, ..] => {
                let names = [first, second].map(|path| path.file_name().unwrap_or_default().to_string_lossy());
                let (one, other) = (&names[0], &names[1]);
                let message = format!("holds several sets ({one}, {other}): give the file of the one to read");
                Err(DataError::format(dir, message))
            }
        }
    }

    /// Opens one file of images, and the labels beside it. Beside a file of training images lies the test split.
    pub fn open_file(path: &Path, split: Split) -> Result<Self, DataError> {
        if split == Split::Train || is_test_name(path) {
            return Self::read(path);
        }
        match test_beside(path) {
            Some(test) => Self::read(&test),
            None => {
                let found = "it is not named t10k or test, and nothing beside it is".to_owned();
                Err(DataError::NoSplit { path: path.to_owned(), split: split.name(), found })
            }
        }
    }

    fn read(path: &Path) -> Result<Self, DataError> {
        let ([count, height, width], gray) = read_idx::<3>(path)?;
        if count == 0 || height == 0 || width == 0 {
            return Err(DataError::format(path, format!("holds {count} images of {height} × {width} pixels")));
        }
        let labels = match labels_beside(path) {
            None => Vec::new(),
            Some(beside) => {
                let ([given], labels) = read_idx::<1>(&beside)?;
                if given != count {
                    let message = format!("has {given} labels, but {} has {count} images", path.display());
                    return Err(DataError::format(&beside, message));
                }
                labels.into_iter().map(u32::from).collect()
            }
        };
        let classes = labels.iter().max().map_or(Vec::new(), |&top| (0..=top).map(|c| c.to_string()).collect());
        Ok(Self { path: path.to_owned(), width, height, gray, labels, classes })
    }
}

/// The name of a file of images without what may be written in two ways.
fn one_form(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    name.strip_suffix(".gz").unwrap_or(&name).replace('.', "-")
}

/// The file of test images that belongs to a file of training images, compressed or not.
fn test_beside(train: &Path) -> Option<PathBuf> {
    let name = train.file_name()?.to_str()?;
    let plain = name.strip_suffix(".gz").unwrap_or(name);
    let names = ["t10k", "test"].map(|test| plain.replace("train", test));
    let names = names.into_iter().filter(|name| name != plain).flat_map(|name| [format!("{name}.gz"), name]);
    names.map(|name| train.with_file_name(name)).find(|path| path.is_file())
}

/// The file of labels that belongs to `images`, compressed or not.
fn labels_beside(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?.replace("images", "labels").replace("idx3", "idx1");
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    [name.clone(), plain.to_owned(), format!("{plain}.gz")]
        .map(|n| images.with_file_name(n))
        .into_iter()
        .find(|p| p.is_file())
}

/// Reads an IDX file of bytes with N dimensions: the magic bytes 0, 0, 8, N, then N sizes as big-endian u32, then the
/// data. Returns sizes and data.
fn read_idx<const N: usize>(path: &Path) -> Result<([usize; N], Vec<u8>), DataError> {
    let read_error = || DataError::io("read", path);
    let cut = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => DataError::format(path, "ends inside its header"),
        _ => read_error()(e),
    };
    let mut start = [0u8; 2];
    File::open(path).and_then(|mut f| f.read_exact(&mut start)).map_err(cut)?;
    let file = BufReader::new(File::open(path).map_err(read_error())?);
    let mut reader: Box<dyn Read> =
        if start == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut magic = [0u8; 4];
    reader.read_exact(&mut magic).map_err(cut)?;
    if magic != [0, 0, 8, N as u8] {
        let message = format!("starts with {magic:?}, expected [0, 0, 8, {N}] (IDX, bytes, {N} dimensions)");
        return Err(DataError::format(path, message));
    }
    let mut sizes = [0usize; N];
    for size in &mut sizes {
        let mut word = [0u8; 4];
        reader.read_exact(&mut word).map_err(cut)?;
        *size = u32::from_be_bytes(word) as usize;
    }
    let too_big = || DataError::format(path, format!("claims the impossible size {sizes:?}"));
    let expected = sizes.iter().try_fold(1usize, |a, &b| a.checked_mul(b)).ok_or_else(too_big)?;
    let mut bytes = Vec::new();
    reader.take(expected as u64 + 1).read_to_end(&mut bytes).map_err(read_error())?;
    if bytes.len() != expected {
        let got = if bytes.len() > expected { "more".to_owned() } else { bytes.len().to_string() };
        return Err(DataError::format(path, format!("has {got} data bytes, its sizes {sizes:?} need {expected}")));
    }
    Ok((sizes, bytes))
}

impl Source for Idx {
    fn len(&self) -> usize {
        self.gray.len() / (self.width * self.height)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied()
    }

    fn name(&self, index: usize) -> String {
        format!("{}: image {index}", self.path.display())
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let size = self.width * self.height;
        let pixels = self.gray[index * size..][..size].iter().flat_map(|&g| [g, g, g]).collect();
        Ok(Rgb8 { width: self.width as u32, height: self.height as u32, pixels }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Dataset;
    use crate::data::testing::put;
    use std::io::Write;

    fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 0, 8, sizes.len() as u8];
        out.extend(sizes.iter().flat_map(|s| s.to_be_bytes()));
        out.extend(bytes);
        out
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn open(path: &Path, split: Split) -> Result<Dataset, DataError> {
        Dataset::open(path.to_str().unwrap(), split)
    }

    #[test]
    fn mnist_folder_with_and_without_gzip() {
        let dir = tempfile::tempdir().unwrap();
        let images = idx(&[2, 2, 3], &(0..12).collect::<Vec<u8>>());
        put(&dir.path().join("train-images-idx3-ubyte.gz"), &gz(&images));
        put(&dir.path().join("train-labels-idx1-ubyte"), &idx(&[2], &[7, 2]));
        put(&dir.path().join("t10k-images.idx3-ubyte"), &images);
        let set = open(dir.path(), Split::Train).unwrap();
        assert_eq!((set.len(), set.classes().len(), set.label(0), set.label(1)), (2, 8, Some(7), Some(2)));
        let image = set.image(1).unwrap();
        assert_eq!((image.width, image.height, &image.pixels[..6]), (3, 2, &[6, 6, 6, 7, 7, 7][..]));
        let test = open(dir.path(), Split::Test).unwrap();
        assert_eq!((test.len(), test.label(0)), (2, None));
        assert_eq!(open(&dir.path().join("train-images-idx3-ubyte.gz"), Split::Train).unwrap().label(0), Some(7));
    }

    #[test]
    fn several_sets_in_a_folder_are_not_mistaken_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (part, kind, gray) in [("letters", "train", 1), ("letters", "test", 2), ("digits", "train", 3)] {
            put(&at(&format!("emnist-{part}-{kind}-images-idx3-ubyte")), &idx(&[1, 1, 1], &[gray]));
            put(&at(&format!("emnist-{part}-{kind}-labels-idx1-ubyte")), &idx(&[1], &[0]));
        }
        let error = open(dir.path(), Split::Train).unwrap_err().to_string();
        assert!(error.contains("several sets") && error.contains("emnist-digits") && error.contains("emnist-letters"));
        let gray = |set: Dataset| set.image(0).unwrap().pixels[0];
        let letters = at("emnist-letters-train-images-idx3-ubyte");
        let train = open(&letters, Split::Train).unwrap();
        assert_eq!((gray(train.test_split().unwrap()), gray(train)), (2, 1));
        let digits = at("emnist-digits-train-images-idx3-ubyte");
        assert!(matches!(open(&digits, Split::Test), Err(DataError::NoSplit { .. })));
        // one set, compressed and not, and a folder of that name
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("train-images-idx3-ubyte"), &idx(&[1, 1, 1], &[7]));
        put(&dir.path().join("train-images.idx3-ubyte.gz"), &gz(&idx(&[1, 1, 1], &[7])));
        put(&dir.path().join("t10k-images-idx3-ubyte/t10k-images-idx3-ubyte"), &idx(&[1, 1, 1], &[8]));
        assert_eq!(gray(open(dir.path(), Split::Train).unwrap()), 7);
    }

    #[test]
    fn wrong_files_are_explained() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train-images-idx3-ubyte");
        for (bytes, hint) in [
            (idx(&[2, 2, 2], &[0; 7]), "has 7 data bytes"),
            (idx(&[2, 2, 2], &[0; 9]), "more data bytes"),
            (idx(&[u32::MAX; 3], &[0; 9]), "impossible size"),
            (idx(&[2], &[0; 2]), "expected [0, 0, 8, 3]"),
            (vec![0, 0, 8], "ends inside"),
            (idx(&[0, 2, 2], &[]), "holds 0 images"),
        ] {
            put(&path, &bytes);
            let error = open(&path, Split::Train).unwrap_err().to_string();
            assert!(error.contains(hint) && error.contains("train-images"), "{error}");
        }
        put(&path, &idx(&[2, 1, 1], &[0; 2]));
        put(&dir.path().join("train-labels-idx1-ubyte"), &idx(&[3], &[0; 3]));
        let error = open(&path, Split::Train).unwrap_err().to_string();
        assert!(error.contains("has 3 labels") && error.contains("2 images"), "{error}");
    }
}

//! From what the user typed to the reader of that layout.
use super::cifar::Cifar;
use super::folder::Folder;
use super::idx::Idx;
use super::tar::Tar;
use crate::data::dataset::Dataset;
use crate::data::error::{DataError, LAYOUTS};
use crate::data::source::Source;
use crate::data::split::Split;
use crate::data::synthetic::Synthetic;
use std::path::Path;

/// Side of the images of `synthetic[:N]` in pixels: larger than what a crop is resized to.
const SIDE: usize = 96;

impl Dataset {
    /// Opens the `split` half of the set that `spec` names.
    ///
    /// | `spec` | contents |
    /// |---|---|
    /// | a folder | `<class>/*.jpg`; the same below `train/` and `val/` or `test/`; or flat, with labels if all are named like `n01440764_1.jpg` |
    /// | `*.tar`, `*.tar.gz`, `*.tar.xz` | any of these packed; a compressed one is unpacked to a temporary file first |
    /// | a folder or one `.bin` | CIFAR-10 or CIFAR-100, binary version |
    /// | a folder or one `*-images-idx3-ubyte[.gz]` | IDX as of MNIST and Fashion-MNIST, labels in the file beside it |
    /// | `synthetic[:N]` | N generated images (2048) of 96 × 96 in ten classes; N / 4 in the test half |
    ///
    /// Samples are sorted by path. A single file and a folder without `train/`, `val/` or `test/` is all train; asking
    /// it for the test half is [`DataError::NoSplit`].
    pub fn open(spec: &str, split: Split) -> Result<Self, DataError> {
        Self::from_source(spec, source(spec, split)?)
    }
}

/// Opens the `split` half of the set that `spec` names; see [`Dataset::open`](crate::data::Dataset::open).
fn source(spec: &str, split: Split) -> Result<Box<dyn Source>, DataError> {
    if spec == "synthetic" || spec.starts_with("synthetic:") {
        return Ok(Box::new(Synthetic::parse(spec, SIDE, split)?));
    }
    let path = Path::new(spec);
    let kind = match std::fs::metadata(path) {
        Ok(kind) => kind,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(DataError::Missing { path: path.to_owned() }),
        Err(e) => return Err(DataError::io("open", path)(e)),
    };
    if kind.is_dir() {
        if let Some(set) = Cifar::find(path, split)? {
            return Ok(Box::new(set));
        }
        if let Some(set) = Idx::find(path, split)? {
            return Ok(Box::new(set));
        }
        return Ok(Box::new(Folder::open(path, split)?));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let ends = |suffixes: &[&str]| suffixes.iter().any(|s| name.ends_with(s));
    if ends(&[".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz"]) {
        Ok(Box::new(Tar::open(path, split)?))
    } else if ends(&[".bin"]) {
        Ok(Box::new(Cifar::open_file(path, split)?))
    } else if super::idx::is_images_name(&name) {
        Ok(Box::new(Idx::open_file(path, split)?))
    } else if ends(&[".xz", ".bz2", ".tbz2", ".zst", ".zip", ".7z", ".rar", ".parquet", ".npz", ".npy"]) {
        let what = format!("a .{} file, which is not read", name.rsplit('.').next().unwrap_or_default());
        let advice = "unpack it and give the folder, or repack it as .tar".to_owned();
        Err(DataError::Unsupported { path: path.to_owned(), what, advice })
    } else {
        let what = "a file of no known layout".to_owned();
        Err(DataError::Unsupported { path: path.to_owned(), what, advice: LAYOUTS.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::put;

    fn error(path: &Path) -> String {
        source(path.to_str().unwrap(), Split::Train).err().unwrap().to_string()
    }

    #[test]
    fn what_cannot_be_opened_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let missing = error(&dir.path().join("nowhere"));
        assert!(missing.contains("no data set at") && missing.contains("nowhere") && missing.contains("synthetic[:N]"));
        let empty = error(dir.path());
        assert!(empty.contains("no images in") && empty.contains("CIFAR-10"), "{empty}");
        for (name, hint) in [("a.tar.bz2", "unpack it"), ("a.zip", "unpack it"), ("a.txt", "understood are")] {
            put(&dir.path().join(name), b"x");
            let text = error(&dir.path().join(name));
            assert!(text.contains(name) && text.contains(hint), "{text}");
        }
    }
}

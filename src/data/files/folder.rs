//! Images in folders (torchvision's `ImageFolder`), read from disk when asked for.
use super::decode::{decode, is_image_name};
use super::layout::{Found, Layout, Place};
use super::listing::{Listing, arrange};
use crate::data::sample::Sample;
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;
use std::fs;
use std::path::{Path, PathBuf};

/// Torchvision's `ImageFolder`, and what people have besides.
pub(crate) const LAYOUT: Layout = Layout {
    name: "image folder",
    help: "one folder of images per class; the same below train/ and val/ or test/; or flat, with labels if every name \
           starts like n01440764_1.jpg",
    open,
};

fn open(place: &Place, split: Split) -> Found {
    if place.is_folder() { Ok(Some(Box::new(Folder::open(place.path, split)?))) } else { Ok(None) }
}

/// Folders nested deeper than this are not searched. This also ends a search that runs in a circle of links.
const MAX_DEPTH: usize = 8;

/// The images of one split of a folder.
pub(crate) struct Folder {
    files: Vec<PathBuf>,
    labels: Vec<u32>,
    classes: Vec<String>,
}

impl Folder {
    /// Lists the images below `root`; hidden files and folders are left out, links are followed.
    pub fn open(root: &Path, split: Split) -> Result<Self, DataError> {
        let mut found = Vec::new();
        walk(root, "", MAX_DEPTH, &mut found)?;
        let names: Vec<String> = found.iter().map(|(name, _)| name.clone()).collect();
        let Listing { order, labels, classes } = arrange(root, &names, split)?;
        let files = order.into_iter().map(|i| std::mem::take(&mut found[i].1)).collect();
        Ok(Self { files, labels, classes })
    }
}

/// Collects every image file below `dir` as (path relative to the root with `/`, path to open).
fn walk(dir: &Path, below: &str, depth: usize, found: &mut Vec<(String, PathBuf)>) -> Result<(), DataError> {
    for entry in fs::read_dir(dir).map_err(DataError::io("read the folder", dir))? {
        let entry = entry.map_err(DataError::io("read the folder", dir))?;
        let file_name = entry.file_name();
        let name = file_name.to_string_lossy();
        if name.starts_with('.') || name == "__MACOSX" {
            continue;
        }
        let (name, path) = (format!("{below}{name}"), entry.path());
        // `file_type` comes with the directory entry; only a link needs a system call to see what it points to.
        let kind = entry.file_type().map_err(DataError::io("look at", &path))?;
        let is_dir = kind.is_dir() || kind.is_symlink() && fs::metadata(&path).is_ok_and(|target| target.is_dir());
        if is_dir && depth > 0 {
            walk(&path, &format!("{name}/"), depth - 1, found)?;
        } else if !is_dir && is_image_name(&name) {
            found.push((name, path));
        }
    }
    Ok(())
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied()
    }

    fn name(&self, index: usize) -> String {
        self.files[index].display().to_string()
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let path = &self.files[index];
        let bytes = fs::read(path).map_err(DataError::io("read", path))?;
        Ok(decode(&self.name(index), &bytes)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Dataset;
    use crate::data::testing::{png, put};

    #[test]
    fn class_tree_with_a_broken_image() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("b/1.png"), &png(3, 2, [1, 2, 3]));
        put(&dir.path().join("a/2.png"), &png(2, 2, [4, 5, 6]));
        put(&dir.path().join("a/1.jpg"), b"\xff\xd8\xff\xe0 torn");
        put(&dir.path().join("a/.hidden.png"), b"");
        put(&dir.path().join("a/notes.txt"), b"");
        let set = Dataset::open(dir.path().to_str().unwrap(), Split::Train).unwrap();
        assert_eq!((set.len(), set.classes()), (3, &["a".to_owned(), "b".to_owned()][..]));
        assert_eq!((0..4).map(|i| set.label(i)).collect::<Vec<_>>(), [Some(0), Some(0), Some(1), None]);
        assert!(set.image(0).unwrap_err().to_string().contains("1.jpg"));
        let (index, image) = set.good_image(0).unwrap();
        assert_eq!((index, &image.pixels[..3]), (1, &[4, 5, 6][..]));
        assert_eq!(set.image(2).unwrap().width, 3);
        assert_eq!(set.skipped(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_a_loop_ends() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("real/a/1.png"), &png(2, 2, [0; 3]));
        put(&dir.path().join("set/b/1.png"), &png(2, 2, [0; 3]));
        std::os::unix::fs::symlink(dir.path().join("real/a"), dir.path().join("set/a")).unwrap();
        let set = Folder::open(&dir.path().join("set"), Split::Train).unwrap();
        assert_eq!(set.classes, ["a", "b"]);
        std::os::unix::fs::symlink(dir.path().join("set"), dir.path().join("set/b/again")).unwrap();
        Folder::open(&dir.path().join("set"), Split::Train).unwrap();
    }
}

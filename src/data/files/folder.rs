//! Images in folders (torchvision's `ImageFolder`), read from disk when asked for.
use super::decode::decode;
use super::layout::{Found, Layout, Place};
use super::listing::{Listing, arrange};
use super::numbering::{Numbering, by_numbering};
use super::walk;
use crate::data::sample::Sample;
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Torchvision's `ImageFolder`, and what people have besides.
pub(crate) const LAYOUT: Layout = Layout {
    name: "image folder",
    help: "one folder of images per class; the same below train/ and val/ or test/; or flat, with labels if every name \
           starts like n01440764_1.jpg",
    open,
};

fn open(place: &Place, split: Split) -> Found {
    if !place.is_folder() {
        return Ok(None);
    }
    let below = place.below()?;
    let beside = below.shards.len() + below.tables.len();
    if beside > 0 && !below.images.is_empty() {
        let root = place.path.display();
        tracing::warn!("{root}: {beside} .tar and .parquet files beside the images are passed over");
    }
    Ok(Some(Box::new(Folder::of(place.path, below, split)?)))
}

/// The images of one split of a folder.
pub(crate) struct Folder {
    root: PathBuf,
    /// What lies below the folder, images of both splits.
    below: Arc<walk::Files>,
    /// Positions in it of the images of this split.
    order: Vec<usize>,
    numbering: Numbering,
}

impl Folder {
    fn of(root: &Path, below: Arc<walk::Files>, split: Split) -> Result<Self, DataError> {
        let names: Vec<&str> = below.images.iter().map(|(name, _)| name.as_str()).collect();
        let Listing { order, numbering } = arrange(root, &names, split)?;
        Ok(Self { root: root.to_owned(), below, order, numbering })
    }

    fn path(&self, index: usize) -> &Path {
        &self.below.images[self.order[index]].1
    }
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn test_split(&self) -> Option<Result<Box<dyn Source>, DataError>> {
        let test = Self::of(&self.root, self.below.clone(), Split::Test);
        Some(test.map(|set| Box::new(set) as Box<dyn Source>))
    }

    by_numbering!();

    fn name(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let path = self.path(index);
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
}

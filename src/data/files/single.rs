//! Files that belong to no data set: an image, cloud or mesh by its path, or several as a set of their own.
use super::clouds::{is_cloud_name, read_cloud};
use super::decode::decode;
use crate::data::dataset::Dataset;
use crate::data::sample::Sample;
use crate::data::source::Source;
use crate::data::stream::{Stream, StreamPurpose};
use crate::data::transform::{Scratch, Transform};
use crate::error::DataError;
use std::path::{Path, PathBuf};

/// The image, cloud or mesh in a file, by the ending of its name.
fn sample_at(path: &Path) -> Result<Sample, DataError> {
    if is_cloud_name(&path.to_string_lossy()) {
        return read_cloud(path, 0, usize::MAX).map(Sample::Points);
    }
    let bytes = std::fs::read(path).map_err(DataError::io("read", path))?;
    decode(&path.display().to_string(), &bytes).map(Sample::Image)
}

/// Reads the image, cloud or mesh at `path`, and makes of it what a network reads: (S, S, 3) bytes, or the patches of a
/// cloud. Random choices are those of seed 0.
///
/// # Errors
/// A file that cannot be read or decoded, one of another kind than the network reads, a transform out of range.
pub fn load_sample(path: &Path, transform: &Transform) -> Result<Vec<u8>, DataError> {
    shown(&sample_at(path)?, &path.display().to_string(), transform)
}

/// What a network reads of a sample.
fn shown(sample: &Sample, name: &str, transform: &Transform) -> Result<Vec<u8>, DataError> {
    transform.check()?;
    let (mut out, mut scratch) = (vec![0; transform.bytes()], Scratch::default());
    let [mut own, mut batch] = [StreamPurpose::Augment, StreamPurpose::Cloud].map(|what| Stream::new(what, [0; 3]));
    transform.show(sample, name, [&mut own, &mut batch], &mut scratch, &mut out)?;
    Ok(out)
}

/// Files in the order they were given, without labels.
struct Paths(Vec<PathBuf>);

impl Source for Paths {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn name(&self, index: usize) -> String {
        self.0[index].display().to_string()
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        sample_at(&self.0[index])
    }
}

impl Dataset {
    /// A set of the images, clouds or meshes at `paths` in this order, without labels. They are read when they are
    /// asked for: one that is not there is a broken sample.
    ///
    /// # Errors
    /// No path at all.
    pub fn from_paths(paths: Vec<PathBuf>) -> Result<Self, DataError> {
        Self::new("the given files", Paths(paths))
    }

    /// What a network reads of sample `index`, as [`load_sample`] makes it of a file.
    ///
    /// # Errors
    /// Those of [`Dataset::sample`]; a sample of another kind than the network reads.
    pub fn shown(&self, index: usize, transform: &Transform) -> Result<Vec<u8>, DataError> {
        shown(&self.sample(index)?, &self.sample_name(index), transform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::{png, put};

    #[test]
    fn files_are_read_in_the_order_of_their_paths() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        put(&at("b.png"), &png(2, 2, [7; 3]));
        put(&at("a.png"), &png(3, 2, [9; 3]));
        put(&at("torn.png"), b"\x89PNG");
        let paths = ["b.png", "gone.png", "a.png", "torn.png", ".", "b.png"].map(at);
        let set = Dataset::from_paths(paths.to_vec()).unwrap();
        let found: Vec<Option<u32>> = (0..6).map(|i| set.readable_image(i).unwrap().map(|image| image.width)).collect();
        assert_eq!(found, [Some(2), None, Some(3), None, None, Some(2)]);
        assert_eq!((set.skipped(), set.label(0), set.classes().len()), (3, None, 0));
        for (i, word) in [(1, "gone.png"), (3, "torn.png"), (4, "cannot read")] {
            assert!(set.fault(i).unwrap().contains(word), "{:?}", set.fault(i));
        }
        assert!(Dataset::from_paths(vec![]).is_err());
    }
}

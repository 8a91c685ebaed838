//! Images inside an archive, read in place. Memory holds the name and the place of each; the file stays open.

use super::contents::Contents;
use super::decode::decode;
use super::layout::Place;
use super::links::images;
use super::listing::{Listing, arrange};
use super::numbering::{Numbering, by_numbering};
use super::packed::{Packed, unpacked};
use super::scene_archive;
use super::tree::Tree;
use crate::data::sample::Sample;
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The set in an archive: a segmentation folder, a folder like COCO, or else an image folder.
///
/// # Errors
/// None of them, or one that cannot be read.
pub(super) fn within(place: &Place, contents: Contents, split: Split) -> Result<Box<dyn Source>, DataError> {
    if let Some(scenes) = scene_archive::within(place, &Tree::archive(&contents), split)? {
        return Ok(scenes);
    }
    Ok(Box::new(ImageArchive::open(contents, split)?))
}

/// One split of an image folder in an archive.
struct ImageArchive {
    path: PathBuf,
    file: Arc<File>,
    /// Members of both splits: their paths in the archive, and where their bytes lie.
    members: Arc<Vec<(String, Packed)>>,
    /// Positions in `members` of the samples of this split.
    order: Vec<usize>,
    numbering: Numbering,
}

impl ImageArchive {
    /// The images in an archive, as a folder that it was made from would hold them: links count as what they lead to.
    fn open(contents: Contents, split: Split) -> Result<Self, DataError> {
        let Contents { path, file, nodes, places } = contents;
        let found = images(&path.display().to_string(), &nodes).map_err(|message| DataError::format(&path, message))?;
        let members = found.into_iter().map(|(name, file)| (name, places[file].clone())).collect();
        Self::of(&path, file, Arc::new(members), split)
    }

    fn of(path: &Path, file: Arc<File>, members: Arc<Vec<(String, Packed)>>, split: Split) -> Result<Self, DataError> {
        let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        let Listing { order, numbering } = arrange(path, &names, split)?;
        Ok(Self { path: path.to_owned(), file, members, order, numbering })
    }
}

impl Source for ImageArchive {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn test_split(&self) -> Option<Result<Box<dyn Source>, DataError>> {
        let test = Self::of(&self.path, self.file.clone(), self.members.clone(), Split::Test);
        Some(test.map(|set| Box::new(set) as Box<dyn Source>))
    }

    by_numbering!();

    fn name(&self, index: usize) -> String {
        format!("{}: {}", self.path.display(), self.members[self.order[index]].0)
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let name = self.name(index);
        let bytes = unpacked(Path::new(&name), &self.members[self.order[index]].1, &self.file)?;
        Ok(decode(&name, &bytes)?.into())
    }
}

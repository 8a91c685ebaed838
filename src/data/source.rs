//! The trait that makes something a data set.

use super::coco::CocoFile;
use super::cursor::Runs;
use super::sample::{Rgb8, Sample};
use crate::error::DataError;

/// Annotations in COCO's form.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotations {
    /// The file, reduced to the images that are samples, in their order.
    pub file: CocoFile,
    /// For each class, the number of its category; `None` for a class that the file does not have.
    pub categories: Vec<Option<u64>>,
}

/// Samples in a fixed order: PyTorch's map-style `Dataset`, read by any number of threads at once.
///
/// [`Dataset::new`](super::Dataset::new) turns a source into a data set, which adds what every set needs: broken
/// samples are replaced and counted, panics become errors, subsets, classes numbered as in another set.
///
/// ```
/// use rowscan::data::{DataError, Dataset, Rgb8, Sample, Source};
///
/// /// Squares of one gray; the bright ones are class 1.
/// struct Grays {
///     classes: Vec<String>,
/// }
///
/// impl Source for Grays {
///     fn len(&self) -> usize {
///         256
///     }
///     fn name(&self, index: usize) -> String {
///         format!("gray {index}")
///     }
///     fn classes(&self) -> &[String] {
///         &self.classes
///     }
///     fn label(&self, index: usize) -> Option<u32> {
///         (index < 256).then_some(u32::from(index >= 128))
///     }
///     fn sample(&self, index: usize) -> Result<Sample, DataError> {
///         Ok(Rgb8 { width: 8, height: 8, pixels: vec![index as u8; 8 * 8 * 3] }.into())
///     }
/// }
///
/// fn main() -> Result<(), DataError> {
///     let set = Dataset::new("grays", Grays { classes: vec!["dark".into(), "bright".into()] })?;
///     assert_eq!(set.label(200), Some(1));
///     assert_eq!(set.image(200)?.pixels[0], 200);
///     // every fourth gray
///     assert_eq!(set.limited(64)?.label(32), Some(1));
///     Ok(())
/// }
/// ```
#[expect(clippy::len_without_is_empty, reason = "Dataset::new refuses an empty source")]
pub trait Source: Send + Sync {
    /// Number of samples, at least 1.
    fn len(&self) -> usize;

    /// Where sample `index` comes from, for messages: a path, or an archive and a member of it.
    fn name(&self, index: usize) -> String;

    /// Reads and decodes sample `index`, which is below [`len`](Self::len). The same index gives the same sample each
    /// time, on every thread.
    ///
    /// # Errors
    /// [`DataError::Decode`] for a broken sample, which a run then replaces by the next good one.
    fn sample(&self, index: usize) -> Result<Sample, DataError>;

    /// The image of sample `index`, without its map or boxes.
    ///
    /// Override it where those cost time to read: pretraining and classification ask for nothing else.
    ///
    /// # Errors
    /// As [`sample`](Self::sample); [`DataError::NoImage`] where a sample is none.
    fn image(&self, index: usize) -> Result<Rgb8, DataError> {
        let sample = self.sample(index)?;
        let kind = sample.kind();
        sample.into_image().ok_or_else(|| DataError::NoImage { name: self.name(index), kind })
    }

    /// Which samples lie together, where reading them in any order costs more than reading these one after the other:
    /// the row groups of Parquet. A shuffled epoch keeps to them, see [`EpochOrder`](super::EpochOrder).
    fn runs(&self) -> Runs {
        Runs::default()
    }

    /// The annotations of the samples in COCO's form, where there are any: image i is sample i. Scores of detection
    /// read what a sample does not hold: numbers of images and categories, areas.
    fn annotations(&self) -> Option<Annotations> {
        None
    }

    /// For each class, the number of its category in COCO's form, where the samples have annotations of that form.
    /// Override it where [`annotations`](Self::annotations) copies many.
    fn categories(&self) -> Option<Vec<Option<u64>>> {
        self.annotations().map(|found| found.categories)
    }

    /// Where this is the train split of a set: its test split, sharing what is open already. `None` if the source knows
    /// of none; a set that was opened by name is then opened again.
    fn test_split(&self) -> Option<Result<Box<dyn Source>, DataError>> {
        None
    }

    /// Class names; labels, boxes and segmentation maps hold positions in here. Empty for a set without classes.
    fn classes(&self) -> &[String] {
        &[]
    }

    /// Why there are no labels, for an error: "its images lie in val/ itself". `None` if there is nothing to say.
    fn unlabeled(&self) -> Option<String> {
        None
    }

    /// The class of sample `index` as a whole; `None` for a set without labels, and past the end.
    fn label(&self, index: usize) -> Option<u32> {
        let _ = index;
        None
    }
}

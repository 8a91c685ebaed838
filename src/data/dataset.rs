//! A data set: a source of samples, with what every set needs around it.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use super::memory::Memory;
use super::points::SyntheticClouds;
use super::sample::{PointCloud, Rgb8, Sample};
use super::scenes::SyntheticScenes;
use super::source::{Annotations, Source};
use super::subset::Subset;
use super::synthetic::Synthetic;
use crate::data::split::Split;
use crate::error::DataError;

/// Samples in a fixed order, with or without class labels.
///
/// A set comes from a file or folder ([`Dataset::open`], with the feature `files`), from images in memory
/// ([`Dataset::from_images`]), or from code of your own ([`Dataset::new`]).
///
/// Samples are decoded when asked for, by any number of threads. A broken sample is reported once as a warning and
/// counted. Training replaces it by the next good one, evaluation leaves it out.
pub struct Dataset {
    pub(super) source: Arc<dyn Source>,
    pub(super) name: String,
    /// Whether the name is one that [`Dataset::open`] understands.
    pub(super) opened: bool,
    /// Which split this is, where that is known.
    pub(super) split: Option<Split>,
    /// Why each of the samples that were found broken is.
    pub(super) broken: Mutex<BTreeMap<usize, String>>,
}

impl Dataset {
    /// A set of whatever `source` reads. `name` is for messages.
    ///
    /// # Errors
    /// [`DataError::Setting`] for a source without samples.
    pub fn new(name: &str, source: impl Source + 'static) -> Result<Self, DataError> {
        Self::from_source(name, Arc::new(source))
    }

    /// The generated set `synthetic[:N]` at `side` × `side` pixels instead of 96 × 96.
    ///
    /// # Errors
    /// An N or a side out of range.
    pub fn synthetic(spec: &str, side: usize, split: Split) -> Result<Self, DataError> {
        Self::new(spec, Synthetic::parse(spec, side, split)?)
    }

    /// The generated set `synthetic-clouds[:N]`: point clouds of solids in twelve classes.
    ///
    /// # Errors
    /// An N out of range.
    pub fn synthetic_clouds(spec: &str, split: Split) -> Result<Self, DataError> {
        Self::new(spec, SyntheticClouds::parse(spec, split)?)
    }

    /// The generated set `synthetic-scenes[:N]`: images of several shapes with the class of each pixel.
    ///
    /// # Errors
    /// An N out of range.
    pub fn synthetic_scenes(spec: &str, split: Split) -> Result<Self, DataError> {
        Self::new(spec, SyntheticScenes::parse(spec, split)?)
    }

    /// The generated set `synthetic-objects[:N]`: images of several shapes with box and mask of each.
    ///
    /// # Errors
    /// An N out of range.
    pub fn synthetic_objects(spec: &str, split: Split) -> Result<Self, DataError> {
        Self::new(spec, SyntheticScenes::of_objects(spec, split)?)
    }

    /// A set of `images` in memory, without labels. `name` is for messages.
    ///
    /// # Errors
    /// No image at all, or one whose number of pixels differs from its size.
    pub fn from_images(name: &str, images: Vec<Rgb8>) -> Result<Self, DataError> {
        Self::new(name, Memory::new(name, images)?)
    }

    /// A set of `count` of the samples, evenly spread over their order; all samples for 0. Open files are shared.
    ///
    /// # Errors
    /// More samples wanted than there are.
    pub fn limited(&self, count: usize) -> Result<Self, DataError> {
        let source: Arc<dyn Source> = match count {
            0 => self.source.clone(),
            _ => Arc::new(Subset::new(self.source.clone(), count)?),
        };
        Ok(Self { source, name: self.name.clone(), opened: self.opened, split: self.split, broken: Mutex::default() })
    }

    pub(super) fn from_source(name: &str, source: Arc<dyn Source>) -> Result<Self, DataError> {
        if source.len() == 0 {
            return Err(DataError::setting("the number of samples", 0, format!("at least 1 ({name})")));
        }
        Ok(Self { source, name: name.to_owned(), opened: false, split: None, broken: Mutex::default() })
    }

    /// The name: what [`Dataset::open`] was given, or [`Dataset::new`].
    pub fn spec(&self) -> &str {
        &self.name
    }

    /// Number of samples, broken ones included; never 0.
    #[expect(clippy::len_without_is_empty, reason = "an empty set does not open")]
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Class names; a label is a position in them. Empty for a set without classes.
    pub fn classes(&self) -> &[String] {
        self.source.classes()
    }

    /// Class of sample `index`, read without decoding; `None` without labels or past the end.
    pub fn label(&self, index: usize) -> Option<u32> {
        self.source.label(index)
    }

    /// Where sample `index` comes from, for messages.
    pub fn sample_name(&self, index: usize) -> String {
        if index < self.len() { self.source.name(index) } else { format!("{}: no sample {index}", self.name) }
    }

    /// Decodes sample `index` with everything that belongs to it.
    ///
    /// # Errors
    /// Those of the source. A panic inside its decoder, and a sample that contradicts itself or the class names, are
    /// [`DataError::Decode`].
    pub fn sample(&self, index: usize) -> Result<Sample, DataError> {
        self.read(index, |source| source.sample(index), |sample| sample.fault(self.classes().len()))
    }

    /// Decodes the image of sample `index`.
    ///
    /// # Errors
    /// As [`Dataset::sample`]; [`DataError::NoImage`] where the sample has no image.
    pub fn image(&self, index: usize) -> Result<Rgb8, DataError> {
        self.read(index, |source| source.image(index), Rgb8::fault)
    }

    fn read<T>(
        &self, index: usize, read: impl FnOnce(&dyn Source) -> Result<T, DataError>,
        fault: impl FnOnce(&T) -> Option<String>,
    ) -> Result<T, DataError> {
        if index >= self.len() {
            return Err(DataError::setting("sample index", index, format!("below {} ({})", self.len(), self.name)));
        }
        let broken = |reason| DataError::Decode { name: self.sample_name(index), reason };
        let read = catch_unwind(AssertUnwindSafe(|| read(&*self.source)));
        let sample = read.map_err(|_| broken("the decoder panicked".to_owned()))??;
        fault(&sample).map_or(Ok(sample), |reason| Err(broken(reason)))
    }

    /// Decodes sample `index` or, if that is broken, the next one in order that is not; says which it was.
    ///
    /// # Errors
    /// [`DataError::AllBroken`].
    pub fn good_sample(&self, index: usize) -> Result<(usize, Sample), DataError> {
        self.good(index, |i| self.sample(i))
    }

    /// Decodes the image of sample `index` or, if that is broken, of the next one in order that is not; says which it
    /// was.
    ///
    /// # Errors
    /// [`DataError::AllBroken`]; [`DataError::NoImage`] where the samples have no images.
    pub fn good_image(&self, index: usize) -> Result<(usize, Rgb8), DataError> {
        self.good(index, |i| self.image(i))
    }

    /// The points of sample `index` or, if that is broken, of the next one in order that is not; says which it was.
    ///
    /// # Errors
    /// [`DataError::AllBroken`]; [`DataError::NoCloud`] where the samples are no point clouds.
    pub fn good_cloud(&self, index: usize) -> Result<(usize, PointCloud), DataError> {
        self.good(index, |i| self.cloud(i))
    }

    /// The points of sample `index`; none if it is broken, which is reported once as a warning and counted.
    ///
    /// # Errors
    /// [`DataError::NoCloud`] where the sample is no point cloud.
    pub fn readable_cloud(&self, index: usize) -> Result<Option<PointCloud>, DataError> {
        self.readable(index, |i| self.cloud(i))
    }

    /// The points of sample `index`.
    ///
    /// # Errors
    /// As [`Dataset::sample`]; [`DataError::NoCloud`] where the sample is no point cloud.
    pub fn cloud(&self, index: usize) -> Result<PointCloud, DataError> {
        match self.sample(index)? {
            Sample::Points(cloud) => Ok(cloud),
            other => Err(DataError::NoCloud { name: self.sample_name(index), kind: other.kind() }),
        }
    }

    /// The image of sample `index` and the class of each pixel or, if that is broken, those of the next one in order
    /// that is not; says which it was.
    ///
    /// # Errors
    /// [`DataError::AllBroken`]; [`DataError::NoMap`] where the samples have no segmentation maps.
    pub fn good_scene(&self, index: usize) -> Result<(usize, Sample), DataError> {
        self.good(index, |i| self.scene(i))
    }

    /// The image of sample `index` and the class of each pixel; none if it is broken, which is reported once as a
    /// warning and counted.
    ///
    /// # Errors
    /// [`DataError::NoMap`] where the sample has no segmentation map.
    pub fn readable_scene(&self, index: usize) -> Result<Option<Sample>, DataError> {
        self.readable(index, |i| self.scene(i))
    }

    /// The image of sample `index` and the objects in it or, if that is broken, those of the next one in order that is
    /// not; says which it was.
    ///
    /// # Errors
    /// [`DataError::AllBroken`]; [`DataError::NoObjects`] where the samples have no boxes.
    pub fn good_objects(&self, index: usize) -> Result<(usize, Sample), DataError> {
        self.good(index, |i| self.objects(i))
    }

    /// The image of sample `index` and the objects in it; none if it is broken, which is reported once as a warning and
    /// counted.
    ///
    /// # Errors
    /// [`DataError::NoObjects`] where the sample has no boxes.
    pub fn readable_objects(&self, index: usize) -> Result<Option<Sample>, DataError> {
        self.readable(index, |i| self.objects(i))
    }

    fn objects(&self, index: usize) -> Result<Sample, DataError> {
        match self.sample(index)? {
            objects @ Sample::Detected(..) => Ok(objects),
            other => Err(DataError::NoObjects { name: self.sample_name(index), kind: other.kind() }),
        }
    }

    /// The annotations of the samples in COCO's form, if the source has them: image i is sample i.
    pub fn annotations(&self) -> Option<Annotations> {
        self.source.annotations()
    }

    /// For each class the number of its category, if the source has annotations in COCO's form.
    pub fn categories(&self) -> Option<Vec<Option<u64>>> {
        self.source.categories()
    }

    fn scene(&self, index: usize) -> Result<Sample, DataError> {
        match self.sample(index)? {
            scene @ Sample::Segmented(..) => Ok(scene),
            other => Err(DataError::NoMap { name: self.sample_name(index), kind: other.kind() }),
        }
    }

    /// Decodes the image of sample `index`; none if it is broken, which is reported once as a warning and counted.
    ///
    /// # Errors
    /// [`DataError::NoImage`] where the sample has no image.
    pub fn readable_image(&self, index: usize) -> Result<Option<Rgb8>, DataError> {
        self.readable(index, |i| self.image(i))
    }

    fn readable<T>(&self, index: usize, read: impl Fn(usize) -> Result<T, DataError>) -> Result<Option<T>, DataError> {
        if self.broken().contains_key(&index) {
            return Ok(None);
        }
        match read(index) {
            Ok(sample) => Ok(Some(sample)),
            Err(error @ DataError::Setting { .. }) => Err(error),
            Err(error) if is_of_other_kind(&error) => Err(error),
            Err(error) => {
                self.skip(index, &error);
                Ok(None)
            }
        }
    }

    /// Counts a broken sample, and reports it the first time.
    fn skip(&self, index: usize, error: &DataError) {
        if self.broken().insert(index, error.to_string()).is_none() {
            tracing::warn!("skipping a broken sample: {error}");
        }
    }

    fn good<T>(&self, index: usize, read: impl Fn(usize) -> Result<T, DataError>) -> Result<(usize, T), DataError> {
        let mut last = String::new();
        for i in (0..self.len()).map(|step| (index + step) % self.len()) {
            if let Some(fault) = self.fault(i) {
                last = fault;
                continue;
            }
            match read(i) {
                Ok(sample) => return Ok((i, sample)),
                Err(error) if is_of_other_kind(&error) => return Err(error),
                Err(error) => {
                    self.skip(i, &error);
                    last = error.to_string();
                }
            }
        }
        Err(DataError::AllBroken { name: self.name.clone(), count: self.len(), last })
    }

    /// Number of broken samples met so far.
    pub fn skipped(&self) -> usize {
        self.broken().len()
    }

    /// Why sample `index` is broken; `None` if it was not found to be.
    pub fn fault(&self, index: usize) -> Option<String> {
        self.broken().get(&index).cloned()
    }

    fn broken(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, String>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a sample is fine, and something else than was asked for: then all of its set are.
fn is_of_other_kind(error: &DataError) -> bool {
    use DataError::{NoCloud, NoImage, NoMap, NoObjects};
    matches!(error, NoImage { .. } | NoCloud { .. } | NoMap { .. } | NoObjects { .. })
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dataset({}, {} images, {} classes)", self.name, self.len(), self.classes().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::Stub;

    #[test]
    fn broken_images_are_replaced_by_the_next_good_one_and_counted_once() {
        let set = Stub { count: 6, broken: vec![2, 3, 5], panics: vec![3] }.dataset();
        for _ in 0..2 {
            assert_eq!(set.good_image(1).unwrap().0, 1);
            assert_eq!(set.good_image(2).unwrap().0, 4);
            assert_eq!(set.good_image(5).unwrap().0, 0);
        }
        assert_eq!(set.skipped(), 3);
        assert_eq!((set.fault(2).as_deref(), set.fault(4)), (Some("stub/2: broken"), None));
        assert!(set.image(3).unwrap_err().to_string().contains("panicked"));
        assert!(set.image(6).unwrap_err().to_string().contains("below 6"));
        assert_eq!(set.sample_name(6), "stub: no sample 6");
    }

    #[test]
    fn a_set_of_broken_images_is_an_error() {
        let set = Stub { count: 3, broken: vec![0, 1, 2], panics: vec![] }.dataset();
        let error = set.good_image(1).unwrap_err().to_string();
        assert!(error.contains("none of the 3 images of stub") && error.ends_with("stub/0: broken"), "{error}");
        // when it is asked again, the reason is still known
        let again = set.good_image(2).unwrap_err();
        assert!(matches!(&again, DataError::AllBroken { last, .. } if last == "stub/1: broken"), "{again}");
    }
}

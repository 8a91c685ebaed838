//! A part of a set: `torch.utils.data.Subset` with evenly spread indices.
use super::coco::CocoFile;
use super::cursor::Runs;
use super::sample::{Rgb8, Sample};
use super::source::{Annotations, Source};
use crate::error::DataError;
use std::collections::BTreeSet;
use std::sync::Arc;

/// `count` samples at even distances in the order of `whole`. Most sets are sorted by class, so that this takes the
/// same share of every class.
pub(crate) struct Subset {
    whole: Arc<dyn Source>,
    count: usize,
}

impl Subset {
    /// Refuses a `count` of 0 or above the number of samples.
    pub fn new(whole: Arc<dyn Source>, count: usize) -> Result<Self, DataError> {
        let all = whole.len();
        if !(1..=all).contains(&count) {
            return Err(DataError::setting("max_images", count, format!("0 for all, or 1 to {all}")));
        }
        Ok(Self { whole, count })
    }

    /// Position in `whole` of sample `index`.
    fn at(&self, index: usize) -> usize {
        (index as u128 * self.whole.len() as u128 / self.count as u128) as usize
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.count
    }

    fn test_split(&self) -> Option<Result<Box<dyn Source>, DataError>> {
        self.whole.test_split()
    }

    fn classes(&self) -> &[String] {
        self.whole.classes()
    }

    fn annotations(&self) -> Option<Annotations> {
        let Annotations { file, categories } = self.whole.annotations()?;
        let images: Vec<_> = (0..self.count).map(|i| file.images[self.at(i)].clone()).collect();
        let known: BTreeSet<u64> = images.iter().map(|image| image.id).collect();
        let annotations = file.annotations.into_iter().filter(|object| known.contains(&object.image_id)).collect();
        Some(Annotations { file: CocoFile { images, annotations, ..file }, categories })
    }

    fn categories(&self) -> Option<Vec<Option<u64>>> {
        self.whole.categories()
    }

    fn label(&self, index: usize) -> Option<u32> {
        if index < self.count { self.whole.label(self.at(index)) } else { None }
    }

    fn runs(&self) -> Runs {
        self.whole.runs().spread(self.count, self.whole.len())
    }

    fn unlabeled(&self) -> Option<String> {
        self.whole.unlabeled()
    }

    fn name(&self, index: usize) -> String {
        self.whole.name(self.at(index))
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        self.whole.sample(self.at(index))
    }

    fn image(&self, index: usize) -> Result<Rgb8, DataError> {
        self.whole.image(self.at(index))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Stub;

    #[test]
    fn samples_are_spread_evenly() {
        let whole = || Stub { count: 10, broken: vec![], panics: vec![] }.dataset();
        let labels = |count| {
            let set = whole().limited(count).unwrap();
            (0..set.len()).filter_map(|i| set.label(i)).collect::<Vec<_>>()
        };
        assert_eq!(labels(0), (0..10).collect::<Vec<_>>());
        assert_eq!(labels(10), labels(0));
        assert_eq!((labels(5), labels(3)), (vec![0, 2, 4, 6, 8], vec![0, 3, 6]));
        assert_eq!(whole().limited(4).unwrap().label(4), None);
        let error = whole().limited(11).err().unwrap().to_string();
        assert!(error.contains("max_images is 11, expected 0 for all, or 1 to 10"), "{error}");
    }
}

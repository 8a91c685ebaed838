//! The set of generated solids.

use super::solids::{NAMES, solid};
use crate::data::sample::{PointCloud, Sample};
use crate::data::source::Source;
use crate::data::split::Split;
use crate::data::stream::{Stream, StreamPurpose};
use crate::error::DataError;

const DEFAULT_COUNT: usize = 2048;
const MAX_COUNT: usize = 1 << 24;
/// Points of a cloud: more than a network sees at once.
const POINTS: usize = 2048;

/// Clouds of solids in twelve classes. Sample i has class i mod 12, and is a function of the split and i.
pub(crate) struct SyntheticClouds {
    split: Split,
    count: usize,
    classes: Vec<String>,
}

impl SyntheticClouds {
    /// Reads `synthetic-clouds` or `synthetic-clouds:N`. The test split has N / 4 clouds, none of which is in the train
    /// split.
    pub fn parse(spec: &str, split: Split) -> Result<Self, DataError> {
        let wrong = |number| DataError::setting("the N of synthetic-clouds:N", number, format!("1 to {MAX_COUNT}"));
        let count = match spec.split_once(':') {
            None => DEFAULT_COUNT,
            Some((_, number)) => {
                number.parse().ok().filter(|n| (1..=MAX_COUNT).contains(n)).ok_or_else(|| wrong(number))?
            }
        };
        let count = match split {
            Split::Train => count,
            Split::Test => (count / 4).max(1),
        };
        Ok(Self { split, count, classes: NAMES.map(str::to_owned).to_vec() })
    }
}

impl Source for SyntheticClouds {
    fn len(&self) -> usize {
        self.count
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> Option<u32> {
        (index < self.count).then_some((index % NAMES.len()) as u32)
    }

    fn name(&self, index: usize) -> String {
        format!("synthetic cloud {index} ({} split)", self.split.name())
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let keys = [1, self.split as u64, index as u64]; // images have 0 in front
        let positions = solid(index % NAMES.len(), POINTS, &mut Stream::new(StreamPurpose::Synthetic, keys));
        Ok(Sample::Points(PointCloud { positions, parts: Vec::new() }))
    }
}

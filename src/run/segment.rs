//! The segmentation task: steps on crops of labeled images, tests on whole images of the data set's test split.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::shared::of_all;
use super::supervised::{DenseLabels, LabelKind, RunContext, SupervisedTask};
use super::task::TaskSettings;
use super::tested::{PixelTest, Tested};
use super::world::World;
use crate::data::{
    DataError, Dataset, ImageBatch, LoaderOptions, PixelLabels, Rgb8, Sample, SegmentationMap, Transform,
};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::infer::program::InferenceProgram;
use crate::infer::segment::{ScoreRows, WINDOWS, pixel_scores, window_scores};
use crate::infer::segmentation_scores::{SegmentationScores, SegmentationTally};
use crate::models::dense::{Dense, Segmentation};
use crate::models::{Config, Segmenter};
use crate::train::dense_recipes::DenseRecipe;
use crate::train::segment::recipes;
use crate::train::segment::settings::{HeadArgs, SegmentArgs, SegmentSettings};
use crate::train::segment::step::SegmentInputs;

impl TaskSettings for SegmentSettings {
    fn loading(&self, config: &Config) -> LoaderOptions {
        LoaderOptions::new(self.run.images_per_step(), Transform::Scene(self.view(config.image_size as u32)))
    }

    fn labels(&self) -> PixelLabels {
        self.labels.clone()
    }
}

/// A segmentation network being trained on a data set.
pub type Segmenting = SupervisedTask<PixelClasses>;

/// Classes of pixels.
#[derive(Debug)]
pub struct PixelClasses;

/// The scores of a set of labeled images.
#[derive(Debug, Clone, Serialize)]
pub struct SegmentationTest {
    /// Images with a labeled pixel or without, all that could be read.
    pub images: usize,
    /// Images that could not.
    pub skipped: usize,
    /// Mean cross-entropy of the labeled pixels; NaN if there are none.
    pub loss: f64,
    /// The scores.
    #[serde(flatten)]
    pub scores: SegmentationScores,
}

/// The program that scores the windows of images.
///
/// # Errors
/// A model that does not fit the adapter.
pub fn scorer(g: &Gpu, model: &Segmenter, config: &Config) -> Result<InferenceProgram> {
    window_scores(g, model, config, WINDOWS)
}

/// The scores of the classes of each pixel of an image.
pub fn segment(forward: &InferenceProgram, config: &Config, image: &Rgb8) -> Result<ScoreRows> {
    pollster::block_on(pixel_scores(forward, config, image))
}

/// What a process has counted in its images.
#[derive(Serialize, Deserialize)]
struct Part {
    tally: SegmentationTally,
    /// Number of the image, the bits of the cross-entropy summed over its labeled pixels (JSON has no NaN), and their
    /// number.
    images: Vec<(usize, u64, u64)>,
}

/// Segments the images of a data set and counts what is right. Broken images are not counted. The processes of `world`
/// take the images in turn, and each gets the result, whose bits do not depend on their number.
///
/// # Errors
/// A set without segmentation maps; no image that can be read; processes that do not answer in time.
pub fn evaluate_pixels(
    world: &World, forward: &InferenceProgram, config: &Config, data: &Dataset,
) -> Result<SegmentationTest> {
    let place = world.place();
    let mut mine = Part { tally: SegmentationTally::new(config.classes), images: Vec::new() };
    for i in (place.rank..data.len()).step_by(place.ranks) {
        let Some(Sample::Segmented(image, map)) = data.readable_scene(i)? else { continue };
        let (best, loss, pixels) = against(&segment(forward, config, &image)?, &map.classes);
        mine.tally.add(&best, &map.classes)?;
        mine.images.push((i, loss.to_bits(), pixels));
    }
    world.doing("the counts of a test");
    let mut parts = of_all(world, vec![(place.rank, mine)])?.into_iter();
    let Some((_, mut all)) = parts.next() else { return Err(Error::Internal("a test of no process".into())) };
    for (_, part) in parts {
        all.tally.add_all(&part.tally);
        all.images.extend(part.images);
    }
    all.images.sort_by_key(|(i, ..)| *i);
    let images = all.images.len();
    if images == 0 {
        let last = data.fault(0).unwrap_or_default();
        return Err(DataError::AllBroken { name: data.spec().into(), count: data.len(), last }.into());
    }
    let sum = |sum: (f64, u64), (_, loss, pixels): &(usize, u64, u64)| (sum.0 + f64::from_bits(*loss), sum.1 + pixels);
    let (loss, pixels) = all.images.iter().fold((0.0, 0), sum);
    let skipped = data.len() - images;
    Ok(SegmentationTest { images, skipped, loss: loss / pixels as f64, scores: all.tally.scores() })
}

/// The best class of each pixel; the cross-entropy summed over the pixels that are labeled with a class, and their
/// number.
fn against(scores: &ScoreRows, labels: &[u16]) -> (Vec<u16>, f64, u64) {
    let (mut best, mut loss, mut pixels) = (Vec::with_capacity(labels.len()), 0.0, 0);
    scores.each(|row| {
        let labels = labels.get(best.len()..).unwrap_or_default();
        for (cell, label) in row.values.chunks(row.channels).zip(labels) {
            if *label != SegmentationMap::IGNORED && usize::from(*label) < row.channels {
                loss += cross_entropy(cell, usize::from(*label));
                pixels += 1;
            }
        }
        best.extend(row.best());
    });
    (best, loss, pixels)
}

/// ln Σ exp(scores) − the score of `label`.
fn cross_entropy(scores: &[f32], label: usize) -> f64 {
    let most = f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = scores.iter().map(|v| (f64::from(*v) - most).exp()).sum();
    sum.ln() + most - f64::from(scores[label])
}

impl From<&SegmentationTest> for PixelTest {
    fn from(test: &SegmentationTest) -> Self {
        let percent = |share: Option<f64>| share.map_or(0.0, |share| 100.0 * share);
        let SegmentationScores { miou, macc, aacc, .. } = test.scores;
        Self { loss: test.loss, miou: percent(miou), macc: percent(macc), aacc: percent(aacc) }
    }
}

impl LabelKind for PixelClasses {
    const COMMAND: &'static str = "segment";
    const SCORE: &'static str = "mIoU";
    const TESTED: fn(PixelTest, Option<PixelTest>) -> Tested = Tested::Pixels;
    type Settings = SegmentSettings;
    type Args = SegmentArgs;
    type Inputs = SegmentInputs;
    type Forward = InferenceProgram;
    type Scores = PixelTest;

    fn check(config: &Config, settings: &SegmentSettings) -> Result<()> {
        if config.classes > 255 {
            return Err(Error::argument("classes", config.classes, "up to 255: a label is a byte, and 255 is none"));
        }
        Ok(settings.view(config.image_size as u32).check()?)
    }

    fn new(_: &Config, _: &SegmentSettings, data: &Arc<Dataset>) -> Result<Self> {
        data.good_scene(0)?; // an error if images have no maps
        Ok(Self)
    }

    fn forward(g: &Gpu, model: &Segmenter, run: &RunContext<SegmentSettings>, _: usize) -> Result<InferenceProgram> {
        scorer(g, model, &run.config)
    }

    fn with_batch<R>(
        &mut self, _: &RunContext<SegmentSettings>, batch: &ImageBatch, _: u64, then: impl FnOnce(&[u8]) -> Result<R>,
    ) -> Result<R> {
        then(&batch.images)
    }

    fn scores(run: &RunContext<SegmentSettings>, forward: &InferenceProgram, data: &Arc<Dataset>) -> Result<PixelTest> {
        Ok((&evaluate_pixels(&run.world, forward, &run.config, data)?).into())
    }
}

impl DenseLabels for PixelClasses {
    type Heads = Segmentation;
    type HeadArgs = HeadArgs;
    const RECIPES: &'static [(&'static str, &'static str)] = recipes::RECIPES;

    fn recipe(name: &str) -> Result<DenseRecipe<Segmentation, SegmentSettings>> {
        recipes::segment_recipe(name)
    }

    fn of_width(width: usize) -> (Segmentation, SegmentSettings) {
        (Segmentation::of_width(width), SegmentSettings::of_width(width))
    }

    fn dense(heads: Segmentation) -> Dense {
        Dense::Segmentation(heads)
    }

    fn heads(dense: &Dense) -> Option<&Segmentation> {
        if let Dense::Segmentation(heads) = dense { Some(heads) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::sliding_window::ScoreMap;

    #[test]
    fn loss_and_classes_have_the_bits_of_the_whole_map() {
        let values = (0..4 * 5 * 3).map(|i| ((i * 7919 % 1009) as f32).sin() * 9.0).collect();
        let map = ScoreMap::new([4, 5], 3, values).unwrap();
        let size = [11, 17];
        let labels: Vec<u16> =
            (0..11 * 17).map(|i| if i % 5 == 0 { SegmentationMap::IGNORED } else { i % 3 }).collect();
        let whole = map.resized(size).unwrap();
        let labeled = whole.values.chunks(3).zip(&labels).filter(|(_, label)| **label != SegmentationMap::IGNORED);
        let loss = labeled.clone().fold(0.0, |sum, (cell, label)| sum + cross_entropy(cell, usize::from(*label)));
        let (best, summed, pixels) = against(&ScoreRows::new(map, size).unwrap(), &labels);
        assert_eq!((best, summed.to_bits(), pixels), (whole.best(), loss.to_bits(), labeled.count() as u64));
    }
}

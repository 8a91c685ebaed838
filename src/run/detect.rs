//! The detection task: steps on views of images with objects, tests on whole images of the data set's test split.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::shared::of_all;
use super::supervised::{DenseLabels, LabelKind, RunContext, SupervisedTask};
use super::task::TaskSettings;
use super::tested::{ObjectTest, Tested};
use super::world::World;
use crate::data::coco::{CocoAnnotation, CocoCategory, CocoDetection, CocoFile, CocoImage, CocoSegmentation};
use crate::data::{
    Annotations, DataError, Dataset, ImageBatch, LoaderOptions, ObjectBox, Place, Rgb8, Sample, Transform,
};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::infer::coco_scores::{CocoScores, Overlap, coco_scores};
use crate::infer::detect::{DetectionProgram, FoundObject};
use crate::models::dense::{Dense, Detection};
use crate::models::{Config, Detector};
use crate::train::dense_recipes::DenseRecipe;
use crate::train::detect::recipes;
use crate::train::detect::settings::{DetectArgs, DetectSettings, DetectorArgs};
use crate::train::detect::step::{DetectBatch, DetectInputs, heads_of};

/// Images that are seen at a time in a test, at most.
const IMAGES: usize = 8;

impl TaskSettings for DetectSettings {
    fn loading(&self, config: &Config) -> LoaderOptions {
        let heads = heads_of(config).cloned().unwrap_or_default();
        LoaderOptions::new(self.run.images_per_step(), Transform::Objects(self.view(config, &heads)))
    }
}

/// A detector being trained on a data set.
pub type Detecting = SupervisedTask<LabeledObjects>;

/// Boxes of objects, their classes and masks.
#[derive(Debug)]
pub struct LabeledObjects {
    data: Arc<Dataset>,
    categories: Vec<Option<u64>>,
    /// Samples of which was said that not all of their objects are learned.
    crowded: BTreeSet<usize>,
}

/// The scores of a set of images.
#[derive(Debug, Clone, Serialize)]
pub struct DetectionTest {
    /// Images that could be read.
    pub images: usize,
    /// Images that could not.
    pub skipped: usize,
    /// What was found, as a file of COCO results.
    #[serde(skip)]
    pub found: Vec<CocoDetection>,
    /// The twelve numbers of boxes.
    pub boxes: [f64; 12],
    /// Those of masks, where network and set have them.
    pub masks: Option<[f64; 12]>,
    /// Average precision of the boxes of each class over all overlaps and recalls; −1 for classes without objects.
    pub classes: Vec<f64>,
}

/// A program that finds objects, for a set of `count` images.
///
/// # Errors
/// A model that does not fit the adapter.
pub fn finder(g: &Gpu, model: &Detector, config: &Config, count: usize) -> Result<DetectionProgram> {
    DetectionProgram::new(g, model, config, count.clamp(1, IMAGES))
}

/// An image that was looked at, and the objects in it.
pub struct SeenImage {
    /// Position in the set.
    pub sample: usize,
    /// The image.
    pub image: Rgb8,
    /// What the set says is in it; empty if it says nothing.
    pub truths: Vec<ObjectBox>,
    /// What was found.
    pub found: Vec<FoundObject>,
}

/// Looks for objects in the images of a set that can be read, and passes them on in order. With `labeled` the set has
/// to say which objects there are. Of the passes of the program, each over neighboring images, a process at `place`
/// takes its share in turn.
///
/// # Errors
/// A set without boxes, if it needs some; those of `each`.
pub fn find_objects(
    finder: &DetectionProgram, data: &Dataset, labeled: bool, place: Place,
    mut each: impl FnMut(SeenImage) -> Result<()>,
) -> Result<()> {
    let passes = data.len().div_ceil(finder.batch());
    for pass in (place.rank..passes).step_by(place.ranks) {
        let mut waiting: Vec<(usize, Rgb8, Vec<ObjectBox>)> = Vec::new();
        for i in (pass * finder.batch()..data.len()).take(finder.batch()) {
            if labeled {
                if let Some(Sample::Detected(image, truths)) = data.readable_objects(i)? {
                    waiting.push((i, image, truths));
                }
            } else if let Some(image) = data.readable_image(i)? {
                waiting.push((i, image, Vec::new()));
            }
        }
        if waiting.is_empty() {
            continue;
        }
        let images: Vec<&Rgb8> = waiting.iter().map(|(_, image, _)| image).collect();
        let found = finder.run(&images)?;
        for ((sample, image, truths), found) in waiting.into_iter().zip(found) {
            each(SeenImage { sample, image, truths, found })?;
        }
    }
    Ok(())
}

/// What a data set says, in COCO's form: its annotations, or else what its samples hold, with numbers from 1. Of the
/// latter it is told sample by sample.
pub struct Truth {
    file: CocoFile,
    /// For each class of the network the number of its category.
    pub categories: Vec<Option<u64>>,
    /// For each sample the number of its image.
    images: Vec<u64>,
    known: bool,
}

impl Truth {
    /// That of a set whose classes are numbered as those of a network, with these names.
    pub fn of(data: &Dataset, names: &[String]) -> Self {
        if let Some(Annotations { file, categories }) = data.annotations() {
            let images = file.images.iter().map(|image| image.id).collect();
            return Self { file, categories, images, known: true };
        }
        let numbers = 1..=names.len() as u64;
        let category = |(id, name): (u64, &String)| CocoCategory { id, name: name.clone() };
        let categories = numbers.clone().zip(names).map(category).collect();
        let file = CocoFile { images: vec![], categories, annotations: vec![] };
        Self { file, categories: numbers.map(Some).collect(), images: (1..=data.len() as u64).collect(), known: false }
    }

    /// The same with these numbers of the network's classes, where the set has none of its own.
    #[must_use]
    pub fn numbered(self, categories: Option<Vec<Option<u64>>>) -> Self {
        let categories = categories.filter(|_| !self.known).unwrap_or_else(|| self.categories.clone());
        Self { categories, ..self }
    }

    /// The number of a sample's image.
    pub fn image(&self, sample: usize) -> u64 {
        self.images[sample]
    }

    /// What a sample says, if that was not known.
    fn says(&self, data: &Dataset, seen: &SeenImage) -> Result<Option<(CocoImage, Vec<CocoAnnotation>)>> {
        if self.known {
            return Ok(None);
        }
        let (height, width) = (seen.image.height, seen.image.width);
        let image_id = self.image(seen.sample);
        let image = CocoImage { id: image_id, file_name: data.sample_name(seen.sample), height, width };
        let object = |object: &ObjectBox| {
            let mask = object.mask.as_ref().map(|mask| mask.runs(height, width)).transpose()?;
            let [left, top, right, bottom] = object.corners();
            let (width, height) = (right - left, bottom - top);
            Ok(CocoAnnotation {
                id: 0, // comes with the others
                image_id,
                category_id: u64::from(object.class) + 1,
                bbox: [left, top, width, height],
                area: mask.as_ref().map_or(width * height, |mask| mask.area() as f64),
                iscrowd: u8::from(object.crowd),
                segmentation: mask.as_ref().map(CocoSegmentation::from),
            })
        };
        Ok(Some((image, seen.truths.iter().map(object).collect::<Result<_>>()?)))
    }

    /// Takes in what [`Truth::says`] of a sample.
    fn add(&mut self, (image, objects): (CocoImage, Vec<CocoAnnotation>)) {
        self.file.images.push(image);
        for object in objects {
            let id = self.file.annotations.len() as u64 + 1;
            self.file.annotations.push(CocoAnnotation { id, ..object });
        }
    }

    /// Forgets images that could not be read, which count neither as right nor as wrong.
    fn keep(&mut self, samples: &BTreeSet<usize>) {
        let ids: BTreeSet<u64> = samples.iter().map(|sample| self.images[*sample]).collect();
        self.file.images.retain(|image| ids.contains(&image.id));
        self.file.annotations.retain(|object| ids.contains(&object.image_id));
    }

    /// What was found in an image, as COCO's results: corners become left, top, width and height. Objects of classes
    /// that the set does not have are left out, as they count nowhere.
    pub fn results(&self, seen: &SeenImage) -> Vec<CocoDetection> {
        let of = |found: &FoundObject| {
            let [left, top, right, bottom] = found.corners;
            Some(CocoDetection {
                image_id: self.image(seen.sample),
                category_id: self.categories.get(found.class).copied().flatten()?,
                bbox: Some([left, top, right - left, bottom - top]),
                score: f64::from(found.score),
                segmentation: found.mask.as_ref().map(CocoSegmentation::from),
            })
        };
        seen.found.iter().filter_map(of).collect()
    }
}

/// What a process has seen in an image.
#[derive(Serialize, Deserialize)]
struct Looked {
    says: Option<(CocoImage, Vec<CocoAnnotation>)>,
    found: Vec<CocoDetection>,
}

/// Looks for objects in the images of a set, and scores what is found. Broken images are not counted. The processes of
/// `world` share the passes, and each gets the result, whose bits do not depend on their number.
///
/// # Errors
/// A set without boxes; no image that can be read; processes that do not answer in time.
pub fn evaluate_objects(
    world: &World, finder: &DetectionProgram, data: &Dataset, names: &[String],
) -> Result<DetectionTest> {
    let mut truth = Truth::of(data, names);
    let mut mine = Vec::new();
    find_objects(finder, data, true, world.place(), |image| {
        mine.push((image.sample, Looked { says: truth.says(data, &image)?, found: truth.results(&image) }));
        Ok(())
    })?;
    world.doing("the objects that a test found");
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for (sample, looked) in of_all(world, mine)? {
        looked.says.into_iter().for_each(|says| truth.add(says));
        found.extend(looked.found);
        seen.insert(sample);
    }
    if seen.is_empty() {
        let last = data.fault(0).unwrap_or_default();
        return Err(DataError::AllBroken { name: data.spec().into(), count: data.len(), last }.into());
    }
    truth.keep(&seen);
    let boxes = coco_scores(&truth.file, &found, Overlap::Boxes)?;
    let all_masked = truth.file.annotations.iter().all(|object| object.segmentation.is_some());
    let masks =
        (all_masked && finder.has_masks()).then(|| coco_scores(&truth.file, &found, Overlap::Masks)).transpose()?;
    let classes = (0..names.len()).map(|class| class_precision(&truth, &boxes, class)).collect();
    let (images, skipped) = (seen.len(), data.len() - seen.len());
    Ok(DetectionTest { images, skipped, found, boxes: boxes.stats, masks: masks.map(|m| m.stats), classes })
}

/// Mean precision of a class over all overlaps and recalls; −1 if the set has none of it.
fn class_precision(truth: &Truth, scores: &CocoScores, class: usize) -> f64 {
    let categories = truth.file.classes();
    let wanted = truth.categories.get(class).copied().flatten();
    let Some(place) = categories.iter().position(|category| Some(category.id) == wanted) else { return -1.0 };
    let of_it: Vec<f64> = scores.precision.chunks(categories.len()).map(|row| row[place]).collect();
    of_it.iter().sum::<f64>() / of_it.len().max(1) as f64
}

impl From<&DetectionTest> for ObjectTest {
    fn from(test: &DetectionTest) -> Self {
        let percent = |share: f64| if share < 0.0 { 0.0 } else { 100.0 * share };
        let [ap, ap50, ap75, ..] = test.boxes.map(percent);
        let masks = test.masks.map(|stats| stats.map(percent));
        Self { ap, ap50, ap75, mask_ap: masks.map(|m| m[0]), mask_ap50: masks.map(|m| m[1]) }
    }
}

impl LabeledObjects {
    /// Says of an image, once, that it has more objects than are learned.
    fn say_crowded(&mut self, batch: &ImageBatch) {
        for (seen, sample) in batch.objects.iter().zip(&batch.samples).filter(|(seen, _)| seen.left_out > 0) {
            if self.crowded.insert(*sample) {
                let (all, kept) = (seen.objects.len() + seen.left_out, seen.objects.len());
                let name = self.data.sample_name(*sample);
                tracing::warn!("{name} shows {all} objects: the {kept} largest are learned, as many as `truths` says");
            }
        }
    }
}

/// Refuses masks that are to be learned where the set has none.
fn expect_masks(data: &Dataset, heads: &Detection) -> Result<()> {
    let (first, sample) = data.good_objects(0)?; // an error if images have no boxes, before anything is written
    let Sample::Detected(_, objects) = sample else { return Ok(()) };
    let without = !objects.is_empty() && objects.iter().all(|object| object.mask.is_none());
    if heads.masks && without {
        let expected = "a segmentation of each object, or `masks` false for boxes alone";
        return Err(Error::argument(format!("objects of {}", data.sample_name(first)), "no mask", expected));
    }
    Ok(())
}

impl LabelKind for LabeledObjects {
    const COMMAND: &'static str = "detect";
    const SCORE: &'static str = "AP of boxes";
    const TESTED: fn(ObjectTest, Option<ObjectTest>) -> Tested = Tested::Objects;
    type Settings = DetectSettings;
    type Args = DetectArgs;
    type Inputs = DetectInputs;
    type Forward = DetectionProgram;
    type Scores = ObjectTest;

    fn check(config: &Config, settings: &DetectSettings) -> Result<()> {
        Ok(settings.view(config, heads_of(config)?).check()?)
    }

    fn new(config: &Config, _: &DetectSettings, data: &Arc<Dataset>) -> Result<Self> {
        expect_masks(data, heads_of(config)?)?;
        let categories = data.categories().unwrap_or_default();
        Ok(Self { data: data.clone(), categories, crowded: BTreeSet::new() })
    }

    fn forward(g: &Gpu, model: &Detector, run: &RunContext<DetectSettings>, count: usize) -> Result<DetectionProgram> {
        finder(g, model, &run.config, count)
    }

    fn with_batch<R>(
        &mut self, _: &RunContext<DetectSettings>, batch: &ImageBatch, _: u64,
        then: impl FnOnce(DetectBatch<'_>) -> Result<R>,
    ) -> Result<R> {
        self.say_crowded(batch);
        then(DetectBatch { images: &batch.images, objects: &batch.objects })
    }

    fn scores(run: &RunContext<DetectSettings>, forward: &DetectionProgram, data: &Arc<Dataset>) -> Result<ObjectTest> {
        Ok((&evaluate_objects(&run.world, forward, data, &run.classes)?).into())
    }

    fn categories(&self) -> &[Option<u64>] {
        &self.categories
    }
}

impl DenseLabels for LabeledObjects {
    type Heads = Detection;
    type HeadArgs = DetectorArgs;
    const RECIPES: &'static [(&'static str, &'static str)] = recipes::RECIPES;

    fn recipe(name: &str) -> Result<DenseRecipe<Detection, DetectSettings>> {
        recipes::detect_recipe(name)
    }

    fn of_width(width: usize) -> (Detection, DetectSettings) {
        (Detection::of_width(width), DetectSettings::of_width(width))
    }

    fn dense(heads: Detection) -> Dense {
        Dense::Detection(heads)
    }

    fn heads(dense: &Dense) -> Option<&Detection> {
        if let Dense::Detection(heads) = dense { Some(heads) } else { None }
    }
}

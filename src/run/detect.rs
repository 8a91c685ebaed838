//! The detection task: steps on views of images with objects, tests on whole images of the data set's test split.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::backbone::load_backbone;
use super::checkpoint::Companions;
use super::shared::of_all;
use super::task::{Surroundings, Task, TaskSettings};
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
use crate::models::Config;
use crate::models::dense::Detection;
use crate::nn::Params;
use crate::tensor::Tensor;
use crate::train::detect::settings::DetectSettings;
use crate::train::detect::step::{DetectBatch, DetectTrainer, heads_of};
use crate::train::loss_scaler::LossScaler;

/// Images that are seen at a time in a test, at most.
const IMAGES: usize = 8;

impl TaskSettings for DetectSettings {
    fn loading(&self, config: &Config) -> LoaderOptions {
        let heads = heads_of(config).cloned().unwrap_or_default();
        LoaderOptions::new(self.run.images_per_step(), Transform::Objects(self.view(config, &heads)))
    }
}

/// A detector being trained on a data set.
pub struct Detecting {
    config: Config,
    settings: DetectSettings,
    g: Gpu,
    classes: Vec<String>,
    categories: Vec<Option<u64>>,
    test_every: u64,
    world: World,
    data: Arc<Dataset>,
    /// Samples of which was said that not all of their objects are learned.
    crowded: BTreeSet<usize>,
    trainer: DetectTrainer,
    tests: Option<Tests>,
}

/// The test split, and the programs that find objects.
struct Tests {
    data: Dataset,
    weights: DetectionProgram,
    average: Option<DetectionProgram>,
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
pub fn finder(g: &Gpu, model: &crate::models::Detector, config: &Config, count: usize) -> Result<DetectionProgram> {
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

impl Detecting {
    /// Loads the backbone of the checkpoint, if the settings name one.
    fn start(&self) -> Result<()> {
        let Some(folder) = &self.settings.checkpoint else { return Ok(()) };
        load_backbone(&self.g, folder, &self.config, &self.trainer.params, self.settings.run.seed)?;
        self.trainer.start_average()
    }

    /// The test split; `None` with a warning if the data set has none.
    fn test_half(&self, train: &Dataset) -> Result<Option<Tests>> {
        let data = match train.test_split() {
            Ok(data) => data.numbered_as(&self.classes)?,
            Err(DataError::NoSplit { .. }) => {
                tracing::warn!("{} has no test half: this run is not tested", train.spec());
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        let forward = |model| finder(&self.g, model, &self.config, data.len());
        let average = self.trainer.average().map(|(_, model)| forward(model)).transpose()?;
        let weights = forward(self.trainer.model())?;
        Ok(Some(Tests { data, weights, average }))
    }

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

impl Task for Detecting {
    const COMMAND: &'static str = "detect";
    const SCORE: &'static str = "AP of boxes";
    type Settings = DetectSettings;

    fn check(config: &Config, settings: &DetectSettings) -> Result<()> {
        settings.check()?;
        Ok(settings.view(config, heads_of(config)?).check()?)
    }

    fn new(
        g: &Gpu, config: &Config, settings: &DetectSettings, surroundings: Surroundings<'_>, resumed: bool,
    ) -> Result<Self> {
        let Surroundings { world, record, data, .. } = surroundings;
        let classes = data.classes().to_vec();
        expect_masks(data, heads_of(config)?)?;
        if classes.len() != config.classes {
            let reason = format!("{} classes, the model has {}", classes.len(), config.classes);
            return Err(DataError::Classes { name: data.spec().into(), reason }.into());
        }
        let mut task = Self {
            trainer: DetectTrainer::fitting(g, config, &settings.run, world.place(), settings.tuning())?,
            g: g.clone(),
            config: config.clone(),
            settings: settings.clone(),
            classes,
            categories: data.categories().unwrap_or_default(),
            test_every: record.eval_every,
            world: world.clone(),
            data: data.clone(),
            crowded: BTreeSet::new(),
            tests: None,
        };
        if !resumed {
            task.start()?;
        }
        task.trainer.join(world.exchange(g)?);
        Ok(task)
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn params(&self) -> &Params {
        &self.trainer.params
    }

    fn companions(&self) -> Companions<'_> {
        self.trainer.companions()
    }

    fn scaler(&self) -> Option<&LossScaler> {
        self.trainer.scaler()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn categories(&self) -> &[Option<u64>] {
        &self.categories
    }

    fn prepare(&mut self, data: &Arc<Dataset>) -> Result<()> {
        self.trainer.prepare()?;
        self.tests = if self.test_every > 0 { self.test_half(data)? } else { None };
        Ok(())
    }

    fn step(&mut self, batch: &ImageBatch, step: u64, lr: f64) -> Result<&Tensor> {
        self.say_crowded(batch);
        self.trainer.step(DetectBatch { images: &batch.images, objects: &batch.objects }, step, lr)
    }

    fn find_not_finite(&mut self, batch: &ImageBatch, step: u64) -> Result<Option<String>> {
        self.trainer.find_not_finite(DetectBatch { images: &batch.images, objects: &batch.objects }, step)
    }

    fn test(&mut self, epoch: u64, last: bool) -> Result<Option<Tested>> {
        let due = last || epoch.is_multiple_of(self.test_every.max(1));
        let Some(tests) = self.tests.as_ref().filter(|_| due) else { return Ok(None) };
        let scores = |finder: &DetectionProgram| -> Result<ObjectTest> {
            Ok((&evaluate_objects(&self.world, finder, &tests.data, &self.classes)?).into())
        };
        Ok(Some(Tested::Objects(scores(&tests.weights)?, tests.average.as_ref().map(scores).transpose()?)))
    }
}

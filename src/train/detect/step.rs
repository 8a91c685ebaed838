//! One step of a detection run: images and objects go in, the weights move, the loss comes out. In its middle, once the
//! network has said what it thinks of its anchors, the host chooses the boxes that the heads learn from.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::data::stream::{Stream, StreamPurpose};
use crate::data::{ObjectBox, SeenObjects};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::dense::boxes::{Candidates, Region, proposals};
use crate::models::dense::{BoxRows, Dense, Detection, MaskTargets, PictureBoxes, RegionTargets};
use crate::models::{Config, Detector};
use crate::nn::Params;
use crate::ops::box_refine::RefinedBoxes;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;
use crate::train::dense_recipes::by_layer;
use crate::train::depth::{below_top, depth_layers};
use crate::train::drop_path::DropPath;
use crate::train::image_input::{Images, share};
use crate::train::supervised::{Moment, Supervised, Trainer};

/// A detector being trained: weights, their average, optimizer, and the recorded step.
pub type DetectTrainer = Trainer<DetectInputs>;

/// Images and their objects.
#[derive(Debug, Clone, Copy)]
pub struct DetectBatch<'a> {
    /// (B, S, S, 3) bytes.
    pub images: &'a [u8],
    /// (B)
    pub objects: &'a [SeenObjects],
}

/// Buffers for a micro-batch of a detector, all of fixed sizes.
#[derive(Debug)]
pub struct DetectInputs {
    config: Config,
    heads: Detection,
    batch: usize,
    images: Images,
    /// The anchors of each level, and what they should say.
    anchors: Vec<Vec<Region>>,
    targets: Vec<RegionTargets>,
    /// (B, 2): rows and columns of the images.
    sizes: Tensor,
    /// (B, G, 5): boxes and classes, below 0 where there is none.
    truths: Tensor,
    /// Boxes that the heads learn from, and objects whose masks are learned: written in the middle of a step.
    boxes: RefinedBoxes,
    masks: MaskTargets,
    /// Scores and deltas of each level of the recorded step, which the host reads there.
    said: Vec<[Tensor; 2]>,
}

/// Side of the mask of an object.
const SIDE: usize = 28;

/// Boxes of one image, as the host chose them.
struct Chosen {
    boxes: BoxRows,
    objects: BoxRows,
    masks: Vec<f32>,
}

/// The heads of a detector.
///
/// # Errors
/// A configuration of another network.
pub fn heads_of(config: &Config) -> Result<&Detection> {
    match &config.dense {
        Some(Dense::Detection(heads)) => Ok(heads),
        other => Err(Error::argument("dense", format!("{other:?}"), "detection")),
    }
}

impl DetectInputs {
    /// The boxes that the heads learn from in image `sample`: proposals, and the objects behind them, sampled by random
    /// numbers that only `moment` and the image's place in its step decide.
    fn choose(&self, sample: usize, seen: &SeenObjects, said: &[[Vec<f32>; 2]], moment: Moment) -> Result<Chosen> {
        let (d, patch) = (&self.heads, self.config.detection_cell());
        let levels = Candidates::of_picture(&self.anchors, said, sample);
        let (found, _) = proposals(&levels, seen.size.map(f64::from), &d.proposals(true), true)?;
        let truths: Vec<(Region, usize)> =
            seen.objects.iter().map(|object| (object.corners(), object.class as usize)).collect();
        let mut candidates: Vec<Region> = found.iter().map(|b| b.map(f64::from)).collect();
        candidates.extend(truths.iter().map(|(b, _)| *b));
        let row = (moment.part * self.batch + sample) as u64;
        let mut stream = Stream::new(StreamPurpose::Boxes, [moment.seed, moment.step, row]);
        let keys: Vec<f64> = candidates.iter().map(|_| stream.unit()).collect();
        let picture = PictureBoxes { sample, candidates: &candidates, truths: &truths, keys: &keys };
        let classes = self.config.classes;
        let stage = d.cascade(classes, patch).stages[0];
        let (mut boxes, mut objects) = (BoxRows::empty(d.boxes), BoxRows::empty(d.objects));
        let (chosen, _) = boxes.sample(0, &picture, stage, d.box_sampler(), classes);
        let mut masks = vec![0.0; d.objects * SIDE * SIDE];
        let with_masks =
            chosen.into_iter().filter_map(|(i, truth)| Some((i, truth, seen.objects[truth].mask.as_ref()?)));
        for (slot, (i, truth, mask)) in with_masks.take(d.objects).enumerate() {
            objects.put(slot, sample, &candidates[i], truths[truth].1, None);
            let cells = mask.target(candidates[i], SIDE as u32)?;
            let to = &mut masks[slot * SIDE * SIDE..][..SIDE * SIDE];
            to.iter_mut().zip(cells).for_each(|(to, cell)| *to = f32::from(cell));
        }
        Ok(Chosen { boxes, objects, masks })
    }

    /// Uploads the targets of the anchors.
    fn write_anchors(&self, g: &Gpu, objects: &[SeenObjects]) -> Result<()> {
        let all: Vec<Region> = self.anchors.concat();
        let values = |seen: &SeenObjects| {
            let truths: Vec<Region> = seen.objects.iter().map(ObjectBox::corners).collect();
            let (of_objects, background) = &seen.anchors;
            let mut truth = vec![0; all.len()];
            of_objects.iter().for_each(|(anchor, object)| truth[*anchor] = *object);
            let anchors: Vec<usize> = of_objects.iter().map(|(anchor, _)| *anchor).collect();
            RegionTargets::values(&all, &truths, &truth, [&anchors, background])
        };
        let values: Vec<[Vec<f32>; 3]> = objects.iter().map(values).collect();
        let mut start = 0;
        for (level, targets) in self.anchors.iter().zip(&self.targets) {
            let n = level.len();
            let part = |which: usize, each: usize| -> Vec<f32> {
                values.iter().flat_map(|of| of[which][start * each..][..n * each].iter().copied()).collect()
            };
            targets.object.write(g, &part(0, 1))?;
            targets.sampled.write(g, &part(1, 1))?;
            targets.deltas.write(g, &part(2, 4))?;
            start += n;
        }
        Ok(())
    }
}

impl Supervised for DetectInputs {
    type Model = Detector;
    type Batch<'a> = DetectBatch<'a>;

    fn model(g: &Gpu, params: &mut Params, config: &Config) -> Result<Detector> {
        Detector::new(g, params, config)
    }

    fn new(_: &Gpu, config: &Config, batch: usize) -> Result<Self> {
        let heads = heads_of(config)?.clone();
        let cell = config.detection_cell();
        let maps = Detection::maps(
            [config.image_size, config.image_width.unwrap_or(config.image_size)].map(|side| side / cell),
        );
        let anchors = heads.anchors(cell).of(&maps);
        let targets = |level: &Vec<Region>| RegionTargets {
            object: Tensor::input("objects of anchors", &[batch, level.len()]),
            sampled: Tensor::input("sampled anchors", &[batch, level.len()]),
            deltas: Tensor::input("deltas of anchors", &[batch, level.len(), 4]),
        };
        let objects = batch * heads.objects;
        Ok(Self {
            images: Images::new(config, batch)?,
            targets: anchors.iter().map(targets).collect(),
            anchors,
            sizes: Tensor::input("sizes of images", &[batch, 2]),
            truths: Tensor::input("objects of images", &[batch, heads.truths, 5]),
            boxes: BoxRows::inputs(batch * heads.boxes),
            masks: MaskTargets {
                rois: Tensor::input("boxes of masks", &[objects, 5]),
                classes: Tensor::indices("classes of masks", &[objects]),
                masks: Tensor::input("masks", &[objects, SIDE, SIDE]),
                valid: Tensor::input("valid masks", &[objects]),
            },
            said: Vec::new(),
            config: config.clone(),
            heads,
            batch,
        })
    }

    fn loss(&mut self, r: &mut Recorder, model: &Detector, drop_path: &DropPath, state: &Tensor) -> Result<Var> {
        let patches = Var::constant(self.images.patches(r, self.config.input_patch())?); // (B, L, P·P·3)
        let drop_path = drop_path.draw(r, state, self.batch)?;
        let proposed = model.propose(r, &patches, drop_path.as_ref())?;
        self.said.clear();
        let said = proposed.levels.iter().map(|level| [level.objectness.data.clone(), level.deltas.data.clone()]);
        self.said.extend(said);
        r.mark();
        let masks = self.heads.masks.then_some(&self.masks);
        let known = [&self.sizes, &self.truths];
        Ok(model.losses(r, &proposed, &self.targets, &self.boxes, masks, known)?.total)
    }

    fn depth(config: &Config, name: &str) -> usize {
        name.strip_prefix(config.backbone_prefix()).map_or(0, |name| below_top(config, name))
    }

    fn depth_by_name(config: &Config, name: &str) -> usize {
        if !config.pattern.contains('M') {
            return Self::depth(config, name); // the blocks of a ViT are found
        }
        let layers = depth_layers(config);
        (layers + 1).saturating_sub(by_layer(layers, name)) as usize
    }

    fn write(&self, g: &Gpu, batch: DetectBatch<'_>, part: (usize, usize)) -> Result<()> {
        if batch.objects.len() != self.batch * part.1 {
            let expected = format!("{}, one list for each image", self.batch * part.1);
            return Err(Error::argument("objects of images", batch.objects.len(), expected));
        }
        let objects = share(batch.objects, part);
        let classes = self.config.classes;
        if let Some(wrong) = objects.iter().flat_map(|seen| &seen.objects).find(|o| o.class as usize >= classes) {
            return Err(Error::argument("class of an object", wrong.class, format!("below {classes}")));
        }
        self.images.write(g, batch.images, part)?;
        let sizes: Vec<f32> = objects.iter().flat_map(|seen| seen.size.map(|n| n as f32)).collect();
        self.sizes.write(g, &sizes)?;
        let truths = objects.iter().flat_map(|seen| {
            let row = |object: &ObjectBox| {
                let [left, top, right, bottom] = object.corners().map(|v| v as f32);
                [left, top, right, bottom, object.class as f32]
            };
            let rows = seen.objects.iter().map(row).chain(std::iter::repeat([0.0, 0.0, 0.0, 0.0, -1.0]));
            rows.take(self.heads.truths).flatten().collect::<Vec<f32>>()
        });
        self.truths.write(g, &truths.collect::<Vec<f32>>())?;
        self.write_anchors(g, objects)
    }

    /// Reads what the network says of its anchors, and uploads the boxes that it learns from.
    fn between(&self, g: &Gpu, batch: DetectBatch<'_>, part: (usize, usize), moment: Moment, done: u32) -> Result<()> {
        if done != 0 {
            return Ok(());
        }
        let reads: Vec<_> = self.said.iter().flatten().map(|tensor| g.read_often(tensor.memory())).collect();
        let mut values = Vec::new();
        for read in reads {
            values.push(bytemuck::pod_collect_to_vec::<u8, f32>(&read?.wait()?));
        }
        let mut pairs = values.into_iter();
        let mut said = Vec::new();
        while let (Some(scores), Some(deltas)) = (pairs.next(), pairs.next()) {
            said.push([scores, deltas]);
        }
        let objects = share(batch.objects, part);
        let chosen = (0..self.batch).into_par_iter().map(|i| self.choose(i, &objects[i], &said, moment));
        let chosen: Vec<Chosen> = chosen.collect::<Result<_>>()?;
        let (mut boxes, mut masked) = (BoxRows::none(), BoxRows::none());
        let mut masks = Vec::with_capacity(self.masks.masks.len());
        for of_one in chosen {
            boxes.append(of_one.boxes);
            masked.append(of_one.objects);
            masks.extend(of_one.masks);
        }
        boxes.write(g, &self.boxes)?;
        if !self.heads.masks {
            return Ok(());
        }
        self.masks.rois.write(g, &masked.rois)?;
        self.masks.classes.write(g, &masked.labels)?;
        self.masks.valid.write(g, &masked.valid)?;
        self.masks.masks.write(g, &masks)
    }
}

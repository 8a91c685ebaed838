//! The objects in images of any size: boxes, masks, classes, scores.

use std::fmt;

use super::paste::{on_picture, pasted};
use crate::data::masks::RunLengths;
use crate::data::{Rgb8, whole_view};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Program};
use crate::models::dense::boxes::{Candidates, DetectedBox, Region, detections, proposals};
use crate::models::dense::nms::Corners;
use crate::models::dense::{BoxRows, Dense, Detection};
use crate::models::{Config, Detector};
use crate::ops::box_refine::RefinedBoxes;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;
use crate::train::image_input::Images;

/// The least score of an object, the most that two of a class overlap, and the most objects of an image.
const LEAST: f64 = 0.05;
const OVERLAP: f64 = 0.5;
const MOST: usize = 100;
/// The probability from which on a pixel belongs to an object.
const INSIDE: f64 = 0.5;

/// An object that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundObject {
    /// Left, top, right, bottom in pixels of the image.
    pub corners: [f64; 4],
    /// How sure the network is, from 0 to 1.
    pub score: f32,
    /// Its class.
    pub class: usize,
    /// Its pixels, where the network says them.
    pub mask: Option<RunLengths>,
}

/// A forward program of a detector. It has two marks at which the host chooses boxes: of all proposals, and of those
/// that the cascade has refined.
pub struct DetectionProgram {
    g: Gpu,
    config: Config,
    heads: Detection,
    batch: usize,
    images: Images,
    sizes: Tensor,
    anchors: Vec<Vec<Region>>,
    said: Vec<[Tensor; 2]>,
    proposed: RefinedBoxes,
    /// Scores (R, K + 1) of each stage, and the boxes (R, 5) that the last one leaves.
    refined: (Vec<Tensor>, Tensor),
    detected: RefinedBoxes,
    /// (B·100, M, M)
    masks: Option<Tensor>,
    program: Program,
}

impl fmt::Debug for DetectionProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DetectionProgram({} of {})", self.batch, self.config.name)
    }
}

/// What the host has read and chosen between the parts of a pass.
#[derive(Default)]
struct Pass {
    counts: Vec<usize>,
    found: Vec<Vec<DetectedBox>>,
}

impl DetectionProgram {
    /// Records a pass over `batch` images.
    ///
    /// # Errors
    /// A network that is no detector, or that does not fit the adapter.
    pub fn new(g: &Gpu, model: &Detector, config: &Config, batch: usize) -> Result<Self> {
        let Some(Dense::Detection(heads)) = &config.dense else {
            return Err(Error::argument("dense", format!("{:?}", config.dense), "detection"));
        };
        let images = Images::new(config, batch)?;
        let sizes = Tensor::input("sizes of images", &[batch, 2]);
        let (proposed, detected) = (BoxRows::inputs(batch * heads.proposals), BoxRows::inputs(batch * MOST));
        let (recording, (said, refined, masks)) = Recorder::inference(g).record(|r| {
            let patches = Var::constant(images.patches(r, config.input_patch())?);
            let maps = model.propose(r, &patches, None)?;
            r.mark();
            let (scores, boxes) = model.refine(r, &maps, &proposed.rois, &proposed.valid, &sizes)?;
            r.mark();
            let masks = model.masks(r, &maps, &detected.rois, &detected.labels)?;
            let said = maps.levels.iter().map(|level| [level.objectness.data.clone(), level.deltas.data.clone()]);
            let scores = scores.into_iter().map(|scores| scores.data).collect();
            Ok((said.collect(), (scores, boxes), masks.map(|masks| masks.data)))
        })?;
        let maps = Detection::maps([config.grid(), config.grid_columns()]);
        Ok(Self {
            anchors: heads.anchors(config.patch_size).of(&maps),
            program: Program::new(recording)?,
            g: g.clone(),
            config: config.clone(),
            heads: heads.clone(),
            batch,
            images,
            sizes,
            said,
            proposed,
            refined,
            detected,
            masks,
        })
    }

    /// Images of a pass.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Whether it says the pixels of objects.
    pub fn has_masks(&self) -> bool {
        self.masks.is_some()
    }

    /// The objects of up to [`batch`](Self::batch) images, the surest first.
    ///
    /// An image is resized until its longer side is that of the network's input. Of each class the boxes with a score
    /// above 0.05 count, of two that overlap by more than half the surer one, at most 100 of an image.
    ///
    /// - detectron2: `GeneralizedRCNN.inference`, `detector_postprocess`.
    ///
    /// # Errors
    /// More images than that, an image whose pixels are not those of its size.
    pub fn run(&self, images: &[&Rgb8]) -> Result<Vec<Vec<FoundObject>>> {
        if images.len() > self.batch {
            return Err(Error::argument("images of a pass", images.len(), format!("up to {}", self.batch)));
        }
        let side = self.config.image_size;
        let (mut bytes, mut sizes) = (Vec::with_capacity(3 * side * side * self.batch), Vec::new());
        for image in images {
            let (view, size) = whole_view(image, side)?;
            bytes.extend(view);
            sizes.push(size);
        }
        bytes.resize(3 * side * side * self.batch, 0);
        self.images.write(&self.g, &bytes, (0, 1))?;
        let mut rows = vec![side as f32; 2 * self.batch];
        rows.iter_mut().zip(sizes.iter().flatten()).for_each(|(row, side)| *row = *side as f32);
        self.sizes.write(&self.g, &rows)?;
        let mut pass = Pass::default();
        self.program.run_in_parts(|done| match done {
            0 => self.propose(&sizes, &mut pass),
            1 => self.detect(sizes.len(), &mut pass),
            _ => Ok(()),
        })?;
        let cells = match &self.masks {
            Some(masks) => self.read(masks)?,
            None => Vec::new(),
        };
        let each = cells.len() / (self.batch * MOST);
        let grid = each.isqrt();
        let mut all = Vec::new();
        for (i, (image, size)) in images.iter().zip(&sizes).enumerate() {
            let to = [image.height as usize, image.width as usize];
            let corners: Vec<Region> = pass.found[i].iter().map(|d| d.corners.map(f64::from)).collect();
            let mut objects = Vec::new();
            for (slot, (found, (corners, is_left))) in
                pass.found[i].iter().zip(on_picture(&corners, *size, to)).enumerate()
            {
                if !is_left {
                    continue;
                }
                let mask = if self.masks.is_some() {
                    let scores = &cells[(i * MOST + slot) * each..][..each];
                    let sure: Vec<f32> = scores.iter().map(|v| (1.0 / (1.0 + (-f64::from(*v)).exp())) as f32).collect();
                    let pixels = pasted(&sure, grid, corners, to, INSIDE);
                    Some(RunLengths::of_rows(image.height, image.width, &pixels)?)
                } else {
                    None
                };
                objects.push(FoundObject { corners, score: found.score, class: found.class, mask });
            }
            all.push(objects);
        }
        Ok(all)
    }

    fn read(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        Ok(bytemuck::pod_collect_to_vec(&self.g.read_often(tensor.memory())?.wait()?))
    }

    /// Uploads the proposals of each image.
    fn propose(&self, sizes: &[[usize; 2]], pass: &mut Pass) -> Result<()> {
        let mut said = Vec::new();
        for [scores, deltas] in &self.said {
            said.push([self.read(scores)?, self.read(deltas)?]);
        }
        let most = self.heads.proposals;
        let mut rows = BoxRows::empty(self.batch * most);
        for (sample, size) in sizes.iter().enumerate() {
            let levels = Candidates::of_picture(&self.anchors, &said, sample);
            let (found, _) = proposals(&levels, size.map(|n| n as f64), &self.heads.proposals(false), false)?;
            for (slot, b) in found.iter().enumerate() {
                rows.put(sample * most + slot, sample, &b.map(f64::from), 0, None);
            }
            pass.counts.push(found.len());
        }
        rows.write(&self.g, &self.proposed)
    }

    /// Uploads the objects of each image, whose masks follow.
    fn detect(&self, images: usize, pass: &mut Pass) -> Result<()> {
        let (scores, boxes) = &self.refined;
        let columns = self.config.classes + 1;
        let mut sums = vec![0.0f64; self.batch * self.heads.proposals * columns];
        for stage in scores {
            let values = self.read(stage)?;
            for (sums, row) in sums.chunks_mut(columns).zip(values.chunks(columns)) {
                let most = row.iter().copied().fold(f32::MIN, f32::max);
                let powers: Vec<f64> = row.iter().map(|v| f64::from(v - most).exp()).collect();
                let total: f64 = powers.iter().sum();
                sums.iter_mut().zip(powers).for_each(|(sum, power)| *sum += power / total / scores.len() as f64);
            }
        }
        let probabilities: Vec<f32> = sums.into_iter().map(|v| v as f32).collect();
        let corners: Vec<Corners> =
            self.read(boxes)?.as_chunks::<5>().0.iter().map(|[_, l, t, r, b]| [*l, *t, *r, *b]).collect();
        let mut rows = BoxRows::empty(self.batch * MOST);
        for sample in 0..images {
            let (first, count) = (sample * self.heads.proposals, pass.counts[sample]);
            let sure = &probabilities[first * columns..][..count * columns];
            let found = detections(&corners[first..][..count], sure, LEAST, OVERLAP, MOST);
            for (slot, object) in found.iter().enumerate() {
                rows.put(sample * MOST + slot, sample, &object.corners.map(f64::from), object.class, None);
            }
            pass.found.push(found);
        }
        rows.write(&self.g, &self.detected)
    }
}

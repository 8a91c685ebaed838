//! Boxes in a fixed number of rows, as the programs of a detector take them.

use super::boxes::{BoxSampler, Matcher, Region, encode};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::ops::box_refine::RefinedBoxes;
use crate::tensor::Tensor;

/// Masks to learn, in a fixed number of rows.
#[derive(Debug, Clone)]
pub struct MaskTargets {
    /// (R, 5)
    pub rois: Tensor,
    /// (R) of u32; `u32::MAX` where not valid.
    pub classes: Tensor,
    /// (R, M, M): 1 inside.
    pub masks: Tensor,
    /// (R)
    pub valid: Tensor,
}

/// What the heads may learn from in one picture.
#[derive(Debug, Clone, Copy)]
pub struct PictureBoxes<'a> {
    /// Number of the picture in its batch.
    pub sample: usize,
    /// Proposals, with the truths behind them.
    pub candidates: &'a [Region],
    /// Boxes and classes of the objects.
    pub truths: &'a [(Region, usize)],
    /// A random key for each candidate: the smallest are sampled.
    pub keys: &'a [f64],
}

/// Rows of boxes for a stage, of which some are valid: what the host writes.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxRows {
    /// (R, 5)
    pub rois: Vec<f32>,
    /// (R)
    pub valid: Vec<f32>,
    /// (R)
    pub foreground: Vec<f32>,
    /// (R)
    pub labels: Vec<u32>,
    /// (R, 4)
    pub targets: Vec<f32>,
}

impl BoxRows {
    /// `n` rows that are not valid, but at least one. They hold a box of one pixel.
    pub fn empty(n: usize) -> Self {
        let n = n.max(1);
        Self {
            rois: [0.0, 0.0, 0.0, 1.0, 1.0].repeat(n),
            valid: vec![0.0; n],
            foreground: vec![0.0; n],
            labels: vec![u32::MAX; n],
            targets: vec![0.0; 4 * n],
        }
    }

    /// No rows at all, to which others are appended.
    pub fn none() -> Self {
        Self { rois: vec![], valid: vec![], foreground: vec![], labels: vec![], targets: vec![] }
    }

    /// Appends the rows of another picture.
    pub fn append(&mut self, other: Self) {
        self.rois.extend(other.rois);
        self.valid.extend(other.valid);
        self.foreground.extend(other.foreground);
        self.labels.extend(other.labels);
        self.targets.extend(other.targets);
    }

    /// Fills a row with a box of a picture. `target` are the deltas to its truth, if it has one.
    pub fn put(&mut self, row: usize, sample: usize, b: &Region, class: usize, target: Option<[f64; 4]>) {
        self.rois[5 * row] = sample as f32;
        self.rois[5 * row + 1..][..4].copy_from_slice(&b.map(|v| v as f32));
        self.valid[row] = 1.0;
        self.labels[row] = class as u32;
        if let Some(target) = target {
            self.foreground[row] = 1.0;
            self.targets[4 * row..][..4].copy_from_slice(&target.map(|v| v as f32));
        }
    }

    /// The rows on the GPU.
    pub fn tensors(&self, g: &Gpu) -> Result<RefinedBoxes> {
        let n = self.valid.len();
        Ok(RefinedBoxes {
            rois: Tensor::from_slice(g, &[n, 5], &self.rois)?,
            valid: Tensor::from_slice(g, &[n], &self.valid)?,
            foreground: Tensor::from_slice(g, &[n], &self.foreground)?,
            labels: Tensor::from_indices(g, &[n], &self.labels)?,
            targets: Tensor::from_slice(g, &[n, 4], &self.targets)?,
        })
    }

    /// Buffers for `n` rows, which [`BoxRows::write`] fills before each step.
    pub fn inputs(n: usize) -> RefinedBoxes {
        RefinedBoxes {
            rois: Tensor::input("boxes", &[n, 5]),
            valid: Tensor::input("valid boxes", &[n]),
            foreground: Tensor::input("objects", &[n]),
            labels: Tensor::indices("classes of boxes", &[n]),
            targets: Tensor::input("deltas of boxes", &[n, 4]),
        }
    }

    /// Uploads the rows to buffers of [`BoxRows::inputs`].
    pub fn write(&self, g: &Gpu, to: &RefinedBoxes) -> Result<()> {
        to.rois.write(g, &self.rois)?;
        to.valid.write(g, &self.valid)?;
        to.foreground.write(g, &self.foreground)?;
        to.labels.write(g, &self.labels)?;
        to.targets.write(g, &self.targets)
    }

    /// The sampled boxes of one picture, in rows from `row` on: objects first, then background, whose class is
    /// `background`. `stage` are the least overlap of an object and the weights of its deltas. Returns the chosen
    /// candidates of objects with the indices of their truths, whose masks are learned, and how many candidates were
    /// chosen.
    pub fn sample(
        &mut self, row: usize, from: &PictureBoxes<'_>, (threshold, weights): (f64, [f64; 4]), sampler: BoxSampler,
        background: usize,
    ) -> (Vec<(usize, usize)>, usize) {
        let &PictureBoxes { sample, candidates, truths, keys } = from;
        let regions: Vec<Region> = truths.iter().map(|(b, _)| *b).collect();
        let matches = Matcher::stage(threshold).of(&regions, candidates);
        let [objects, others] = sampler.draw(&matches.label, keys);
        for (slot, i) in objects.iter().enumerate() {
            let (truth, class) = truths[matches.truth[*i]];
            let target = encode(&candidates[*i], &truth, &weights);
            self.put(row + slot, sample, &candidates[*i], class, Some(target));
        }
        for (slot, i) in others.iter().enumerate() {
            self.put(row + objects.len() + slot, sample, &candidates[*i], background, None);
        }
        let chosen = objects.len() + others.len();
        (objects.into_iter().map(|i| (i, matches.truth[i])).collect(), chosen)
    }
}

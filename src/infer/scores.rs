//! The accuracy of a classifier on labeled images, counted on the CPU in f64.

use serde::Serialize;

use super::program::InferenceProgram;
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu};
use crate::models::{Classifier, Config};
use crate::nn::Params;
use crate::tape::{Recorder, Var};
use crate::train::image_input::Images;

/// Loss and accuracy over a set of images. Accuracies are in percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scores {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Percent of images whose class has the highest score.
    pub top1: f64,
    /// Percent of images whose class is among the five with the highest scores.
    pub top5: f64,
}

/// Counts over the images of a set.
#[derive(Debug, Clone)]
pub struct Tally {
    classes: usize,
    images: u64,
    loss: f64,
    first: u64,
    among_five: u64,
    /// The confusion matrix (K, K): images of class `row` that were taken for class `column`.
    confusion: Vec<u64>,
}

/// One class of a [`Tally`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassScores {
    /// Images of the class.
    pub images: u64,
    /// Percent of them that were recognized. None if there is no image.
    pub recall: Option<f64>,
    /// Percent of the images taken for the class that are of the class. None if no image was taken for it.
    pub precision: Option<f64>,
}

impl Tally {
    /// No image yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, images: 0, loss: 0.0, first: 0, among_five: 0, confusion: vec![0; classes * classes] }
    }

    /// Counts images with scores (n, K) and labels (n). Of equal scores, that of the lower class number counts as the
    /// higher. A score that is not a number counts as the highest.
    ///
    /// # Errors
    /// Labels that are no classes, or not as many as there are rows.
    pub fn add(&mut self, logits: &[f32], labels: &[u32]) -> Result<()> {
        let k = self.classes;
        if labels.len() * k != logits.len() {
            let got = format!("{} for {} scores", labels.len(), logits.len());
            return Err(Error::argument("labels", got, format!("one for each {k} scores")));
        }
        for (row, &label) in logits.chunks_exact(k).zip(labels) {
            let at = label as usize;
            let Some(&own) = row.get(at) else {
                return Err(Error::argument("a label", label, format!("below {k}, the number of classes")));
            };
            let above = |(i, v): (usize, &f32)| !(*v < own || *v == own && i >= at);
            let rank = row.iter().enumerate().filter(|&(i, v)| i != at && above((i, v))).count();
            let best = (0..k).reduce(|best, i| if row[i] <= row[best] { best } else { i }).unwrap_or(0);
            self.confusion[at * k + best] += 1;
            self.first += u64::from(rank == 0 && own.is_finite());
            self.among_five += u64::from(rank < 5 && own.is_finite());
            self.loss += cross_entropy(row, own);
            self.images += 1;
        }
        Ok(())
    }

    /// Images counted.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// The scores over all images counted. NaN if there are none.
    pub fn scores(&self) -> Scores {
        let mean = |sum: f64| sum / self.images as f64;
        Scores {
            loss: mean(self.loss),
            top1: 100.0 * mean(self.first as f64),
            top5: 100.0 * mean(self.among_five as f64),
        }
    }

    /// The confusion matrix (K, K): images of class `row` that were taken for class `column`.
    pub fn confusion(&self) -> &[u64] {
        &self.confusion
    }

    /// Mean of the classes' recalls in percent, over those that have samples: mAcc.
    pub fn mean_recall(&self) -> f64 {
        let recalls: Vec<f64> = self.by_class().iter().filter_map(|class| class.recall).collect();
        recalls.iter().sum::<f64>() / recalls.len() as f64
    }

    /// Each class by itself.
    pub fn by_class(&self) -> Vec<ClassScores> {
        let k = self.classes;
        let share = |part: u64, all: u64| (all > 0).then(|| 100.0 * part as f64 / all as f64);
        let class = |i: usize| {
            let hits = self.confusion[i * k + i];
            let images = self.confusion[i * k..][..k].iter().sum();
            let taken = (0..k).map(|row| self.confusion[row * k + i]).sum();
            ClassScores { images, recall: share(hits, images), precision: share(hits, taken) }
        };
        (0..k).map(class).collect()
    }
}

/// The highest score of a row, and Σ exp(score − highest): with large scores nothing overflows.
pub(super) fn exponentials(row: &[f32]) -> (f64, f64) {
    let most = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    (most, row.iter().map(|v| (f64::from(*v) - most).exp()).sum())
}

/// ln Σ exp(row) − own
fn cross_entropy(row: &[f32], own: f32) -> f64 {
    let (most, sum) = exponentials(row);
    sum.ln() + most - f64::from(own)
}

/// A forward program from images to the scores of their classes.
pub fn scores_of(g: &Gpu, model: &Classifier, config: &Config, batch: usize) -> Result<InferenceProgram> {
    let model = model.clone();
    InferenceProgram::new(g, config, batch, move |r, patches| Ok(model.forward(r, patches, None)?.logits))
}

/// What the classifier of a model costs: its weights, and flops for one sample.
///
/// # Errors
/// A model that no adapter with WebGPU's limits holds.
pub fn cost_of(config: &Config) -> Result<(usize, u64)> {
    let g = Gpu::dry(Caps::portable());
    let mut params = Params::new(&g);
    let model = Classifier::new(&g, &mut params, config)?;
    let images = Images::new(config, 1)?;
    let (recording, _) = Recorder::inference(&g).record(|r| {
        let patches = Var::constant(images.patches(r, config.input_patch())?);
        Ok(model.forward(r, &patches, None)?.logits.data)
    })?;
    Ok((params.count(), recording.work().flops))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_losses_and_confusion() {
        let mut tally = Tally::new(7);
        let row = |values: &[(usize, f32)]| {
            let mut row = [0.0f32; 7];
            values.iter().for_each(|&(i, v)| row[i] = v);
            row
        };
        // first; fifth; sixth; of equals the lower class is first
        let rows = [
            row(&[(3, 2.0)]),
            row(&[(0, 4.0), (1, 3.0), (2, 2.0), (3, 1.0), (4, 0.5)]),
            row(&[(0, 4.0), (1, 3.0), (2, 2.0), (3, 1.0), (4, 0.5), (5, 0.25)]),
            row(&[]),
            row(&[]),
        ];
        tally.add(&rows.concat(), &[3, 4, 5, 0, 1]).unwrap();
        let scores = tally.scores();
        assert_eq!((scores.top1, scores.top5, tally.images()), (40.0, 80.0, 5));
        let loss = |row: &[f32], label: usize| {
            (row.iter().map(|v| f64::from(*v).exp()).sum::<f64>()).ln() - f64::from(row[label])
        };
        let want = rows.iter().zip([3, 4, 5, 0, 1]).map(|(row, label)| loss(row, label)).sum::<f64>() / 5.0;
        assert!((scores.loss - want).abs() < 1e-12);
        let at = |row: usize, column: usize| tally.confusion()[row * 7 + column];
        assert_eq!((at(3, 3), at(4, 0), at(5, 0), at(0, 0), at(1, 0)), (1, 1, 1, 1, 1));
        assert_eq!(tally.confusion().iter().sum::<u64>(), 5);
        let classes = tally.by_class();
        assert_eq!(classes[0], ClassScores { images: 1, recall: Some(100.0), precision: Some(25.0) });
        assert_eq!(classes[6], ClassScores { images: 0, recall: None, precision: None });
        assert_eq!(tally.mean_recall(), 40.0); // of classes 0, 1, 3, 4, 5
    }

    #[test]
    fn a_score_that_is_no_number_is_never_right() {
        let mut tally = Tally::new(2);
        tally.add(&[f32::NAN, f32::NAN, f32::NAN, 1.0, 1.0, f32::NAN], &[0, 1, 0]).unwrap();
        assert_eq!(tally.scores().top1, 0.0);
        assert!(tally.scores().loss.is_nan());
        let error = tally.add(&[0.0, 1.0], &[2]).unwrap_err().to_string();
        assert!(error.contains("got 2, expected below 2"), "{error}");
        assert!(tally.add(&[0.0; 3], &[0]).is_err());
        assert!(Tally::new(3).scores().top1.is_nan());
    }

    /// With large scores nothing overflows.
    #[test]
    fn losses_of_large_scores() {
        let mut tally = Tally::new(2);
        tally.add(&[3e38, -3e38], &[0]).unwrap();
        assert_eq!(tally.scores().loss, 0.0);
    }
}

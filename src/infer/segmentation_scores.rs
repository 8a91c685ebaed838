//! The scores of semantic segmentation: intersection over union and accuracy of each class, counted in whole pixels.

use serde::{Deserialize, Serialize};

use crate::data::SegmentationMap;
use crate::error::{Error, Result};

/// Counts over the labeled pixels of a set of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentationTally {
    /// Pixels of each class that were recognized.
    both: Vec<u64>,
    /// Pixels taken for each class.
    predicted: Vec<u64>,
    /// Pixels of each class.
    labeled: Vec<u64>,
}

/// Scores from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentationScores {
    /// Mean over the classes that were labeled or predicted anywhere: mIoU. None without such a class.
    pub miou: Option<f64>,
    /// Mean over the classes that were labeled anywhere: mAcc.
    pub macc: Option<f64>,
    /// Share of the pixels that were recognized: aAcc.
    pub aacc: Option<f64>,
    /// Intersection over union of each class.
    pub iou: Vec<Option<f64>>,
    /// Share of the pixels of each class that were recognized.
    pub acc: Vec<Option<f64>>,
}

impl SegmentationTally {
    /// No image yet.
    pub fn new(classes: usize) -> Self {
        Self { both: vec![0; classes], predicted: vec![0; classes], labeled: vec![0; classes] }
    }

    /// Counts an image: the predicted class of each pixel, and its label. Pixels labeled
    /// [`SegmentationMap::IGNORED`] do not count, whatever was predicted there.
    ///
    /// # Errors
    /// Not as many predictions as labels, or one of them no class.
    pub fn add(&mut self, predicted: &[u16], labels: &[u16]) -> Result<()> {
        if predicted.len() != labels.len() {
            return Err(Error::argument(
                "predicted pixels",
                predicted.len(),
                format!("{}, the labeled ones", labels.len()),
            ));
        }
        let classes = self.both.len();
        let counted = predicted.iter().zip(labels).filter(|(_, label)| **label != SegmentationMap::IGNORED);
        for (what, at) in [("class of a predicted pixel", 0), ("label of a pixel", 1)] {
            let mut all = counted.clone().map(|pair| if at == 0 { *pair.0 } else { *pair.1 });
            if let Some(wrong) = all.find(|class| usize::from(*class) >= classes) {
                return Err(Error::argument(what, wrong, format!("below {classes}, the number of classes")));
            }
        }
        for (predicted, label) in counted {
            self.both[usize::from(*label)] += u64::from(predicted == label);
            self.predicted[usize::from(*predicted)] += 1;
            self.labeled[usize::from(*label)] += 1;
        }
        Ok(())
    }

    /// Counts the images of another tally of the same classes, too.
    pub fn add_all(&mut self, other: &Self) {
        for (mine, others) in [
            (&mut self.both, &other.both),
            (&mut self.predicted, &other.predicted),
            (&mut self.labeled, &other.labeled),
        ] {
            mine.iter_mut().zip(others).for_each(|(mine, other)| *mine += other);
        }
    }

    /// The scores of all images counted.
    pub fn scores(&self) -> SegmentationScores {
        let share = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
        let classes = 0..self.both.len();
        let either = |c: usize| self.predicted[c] + self.labeled[c] - self.both[c];
        let iou: Vec<Option<f64>> = classes.clone().map(|c| share(self.both[c], either(c))).collect();
        let acc: Vec<Option<f64>> = classes.map(|c| share(self.both[c], self.labeled[c])).collect();
        let mean = |values: &[Option<f64>]| {
            let known: Vec<f64> = values.iter().copied().flatten().collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        let sum = |counts: &[u64]| counts.iter().sum();
        let aacc = share(sum(&self.both), sum(&self.labeled));
        SegmentationScores { miou: mean(&iou), macc: mean(&acc), aacc, iou, acc }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Class 2 is predicted and never labeled: it counts in mIoU and not in mAcc. Class 3 is absent.
    #[test]
    fn absent_classes_are_left_out() {
        let mut tally = SegmentationTally::new(4);
        tally.add(&[0, 0, 1, 2, 3], &[0, 1, 1, 0, SegmentationMap::IGNORED]).unwrap();
        let scores = tally.scores();
        assert_eq!(scores.iou, [Some(1.0 / 3.0), Some(0.5), Some(0.0), None]);
        assert_eq!(scores.acc, [Some(0.5), Some(0.5), None, None]);
        assert_eq!((scores.macc, scores.aacc), (Some(0.5), Some(0.5)));
        assert!((scores.miou.unwrap() - 5.0 / 18.0).abs() < 1e-15);
        assert_eq!(SegmentationTally::new(2).scores().miou, None);
    }

    #[test]
    fn what_is_no_class_is_named() {
        let mut tally = SegmentationTally::new(2);
        let e = tally.add(&[2], &[0]).unwrap_err().to_string();
        assert!(e.contains("class of a predicted pixel: got 2, expected below 2"), "{e}");
        let e = tally.add(&[0], &[5]).unwrap_err().to_string();
        assert!(e.contains("label of a pixel: got 5"), "{e}");
        assert!(tally.add(&[0], &[]).is_err());
        assert_eq!(tally.scores().aacc, None);
    }
}

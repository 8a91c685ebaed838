//! Tests between epochs: their scores, and how they are logged, drawn and told.

use super::probe::ProbeScores;
use super::record::log::{Line, ObjectLine, PixelLine, ProbeLine, TestLine};
use crate::infer::scores::Scores;

/// Scores of the weights, and of their moving average if there is one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tested {
    /// Of a classifier.
    Classes(Scores, Option<Scores>),
    /// Of a segmentation network.
    Pixels(PixelTest, Option<PixelTest>),
    /// Of a detector.
    Objects(ObjectTest, Option<ObjectTest>),
    /// Of the features of a model without a head. No best checkpoint is chosen by them.
    Features(ProbeScores),
}

/// Scores of segmentation, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PixelTest {
    /// Mean cross-entropy of the labeled pixels.
    pub loss: f64,
    /// Mean intersection over union of the classes.
    pub miou: f64,
    /// Mean accuracy of the classes.
    pub macc: f64,
    /// Pixels that were recognized.
    pub aacc: f64,
}

/// Scores of detection, in percent; 0 where there is nothing to find.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ObjectTest {
    /// COCO's average precision of boxes.
    pub ap: f64,
    /// The same at an overlap of one half.
    pub ap50: f64,
    /// The same at an overlap of three quarters.
    pub ap75: f64,
    /// Average precision of masks, where they are learned.
    pub mask_ap: Option<f64>,
    /// The same at an overlap of one half.
    pub mask_ap50: Option<f64>,
}

/// A test as a run notes it.
pub struct Noted {
    /// For the log.
    pub line: Line,
    /// For TensorBoard: names and values.
    pub scalars: Vec<(&'static str, f32)>,
    /// For people.
    pub text: String,
    /// What the best checkpoint is chosen by: of the weights, and of their average.
    pub scores: [Option<f64>; 2],
}

/// Scalars of named values, and of those that are known.
fn scalars(known: &[(&'static str, f64)], others: &[(&'static str, Option<f64>)]) -> Vec<(&'static str, f32)> {
    let others = others.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    known.iter().copied().chain(others).map(|(name, value)| (name, value as f32)).collect()
}

impl Tested {
    /// The test after `step`, the last step of so many epochs.
    pub fn noted(self, step: u64, epoch: f64) -> Noted {
        match self {
            Self::Classes(Scores { loss: test_loss, top1, top5 }, average) => {
                let (ema_top1, ema_top5) = (average.map(|s| s.top1), average.map(|s| s.top5));
                let mut text = format!("test {test_loss:.4}  top-1 {top1:.2}%  top-5 {top5:.2}%  ");
                text.extend(ema_top1.map(|v| format!("average's top-1 {v:.2}%  ")));
                Noted {
                    line: Line::Test(TestLine { step, epoch, test_loss, top1, top5, ema_top1, ema_top5 }),
                    scalars: scalars(
                        &[("test/loss", test_loss), ("test/top1", top1), ("test/top5", top5)],
                        &[("test/ema_top1", ema_top1), ("test/ema_top5", ema_top5)],
                    ),
                    text,
                    scores: [Some(top1), ema_top1],
                }
            }
            Self::Pixels(PixelTest { loss: test_loss, miou, macc, aacc }, average) => {
                let ema_miou = average.map(|test| test.miou);
                let mut text = format!("test {test_loss:.4}  mIoU {miou:.2}%  mAcc {macc:.2}%  aAcc {aacc:.2}%  ");
                text.extend(ema_miou.map(|v| format!("average's mIoU {v:.2}%  ")));
                Noted {
                    line: Line::Pixels(PixelLine { step, epoch, test_loss, miou, macc, aacc, ema_miou }),
                    scalars: scalars(
                        &[("test/loss", test_loss), ("test/miou", miou), ("test/macc", macc), ("test/aacc", aacc)],
                        &[("test/ema_miou", ema_miou)],
                    ),
                    text,
                    scores: [Some(miou), ema_miou],
                }
            }
            Self::Objects(ObjectTest { ap, ap50, ap75, mask_ap, mask_ap50 }, average) => {
                let ema_ap = average.map(|test| test.ap);
                let mut text = format!("boxes: AP {ap:.2}%  AP50 {ap50:.2}%  AP75 {ap75:.2}%  ");
                text.extend(mask_ap.zip(mask_ap50).map(|(ap, half)| format!("masks: AP {ap:.2}%  AP50 {half:.2}%  ")));
                text.extend(ema_ap.map(|v| format!("average's AP {v:.2}%  ")));
                Noted {
                    line: Line::Objects(ObjectLine { step, epoch, ap, ap50, ap75, mask_ap, mask_ap50, ema_ap }),
                    scalars: scalars(
                        &[("test/ap", ap), ("test/ap50", ap50), ("test/ap75", ap75)],
                        &[("test/mask_ap", mask_ap), ("test/mask_ap50", mask_ap50), ("test/ema_ap", ema_ap)],
                    ),
                    text,
                    scores: [Some(ap), ema_ap],
                }
            }
            Self::Features(ProbeScores { top1, top5, knn }) => Noted {
                line: Line::Probe(ProbeLine { step, epoch, probe_top1: top1, probe_top5: top5, knn_top1: knn }),
                scalars: scalars(&[("probe/top1", top1), ("probe/top5", top5), ("probe/knn_top1", knn)], &[]),
                text: format!("probe top-1 {top1:.2}%  neighbors {knn:.2}%  "),
                scores: [None, None],
            },
        }
    }
}

//! Curves of the tests of a run by name: points (epoch, percent).

use crate::run::record::{ObjectLine, PixelLine, ProbeLine, TestLine};

/// A curve's name and its points.
pub type Named = (&'static str, Vec<(f64, f64)>);

/// Accuracies of a classifier; those of the moving average are empty without one.
pub fn accuracies(tests: &[TestLine]) -> Vec<Named> {
    let points = |value: fn(&TestLine) -> Option<f64>| -> Vec<(f64, f64)> {
        tests.iter().filter_map(|test| Some((test.epoch, value(test)?))).collect()
    };
    vec![
        ("top-1", points(|t| Some(t.top1))),
        ("top-5", points(|t| Some(t.top5))),
        ("top-1 of the average", points(|t| t.ema_top1)),
        ("top-5 of the average", points(|t| t.ema_top5)),
    ]
}

/// Scores of segmentation.
pub fn overlaps(tests: &[PixelLine]) -> Vec<Named> {
    let points = |value: fn(&PixelLine) -> Option<f64>| -> Vec<(f64, f64)> {
        tests.iter().filter_map(|test| Some((test.epoch, value(test)?))).collect()
    };
    vec![
        ("mIoU", points(|t| Some(t.miou))),
        ("mIoU of the average", points(|t| t.ema_miou)),
        ("accuracy of classes", points(|t| Some(t.macc))),
        ("accuracy of pixels", points(|t| Some(t.aacc))),
    ]
}

/// Average precisions of a detector.
pub fn precisions(tests: &[ObjectLine]) -> Vec<Named> {
    let points = |value: fn(&ObjectLine) -> Option<f64>| -> Vec<(f64, f64)> {
        tests.iter().filter_map(|test| Some((test.epoch, value(test)?))).collect()
    };
    vec![
        ("AP of boxes", points(|t| Some(t.ap))),
        ("AP50 of boxes", points(|t| Some(t.ap50))),
        ("AP75 of boxes", points(|t| Some(t.ap75))),
        ("AP of masks", points(|t| t.mask_ap)),
        ("AP50 of masks", points(|t| t.mask_ap50)),
        ("AP of the average", points(|t| t.ema_ap)),
    ]
}

/// What probes find in frozen features.
pub fn probed(probes: &[ProbeLine]) -> Vec<Named> {
    let points = |value: fn(&ProbeLine) -> f64| probes.iter().map(|line| (line.epoch, value(line))).collect();
    vec![
        ("linear probe, top-1", points(|line| line.probe_top1)),
        ("linear probe, top-5", points(|line| line.probe_top5)),
        ("nearest neighbors, top-1", points(|line| line.knn_top1)),
    ]
}

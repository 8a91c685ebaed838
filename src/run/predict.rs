//! The classes that a classifier sees in each image of a data set.

use std::sync::Arc;

use crate::data::{Dataset, Transform};
use crate::error::Result;
use crate::infer::predict::{ClassProbability, most_likely};
use crate::infer::program::InferenceProgram;

/// An image of a data set, and what is predicted for it.
#[derive(Debug)]
pub struct PredictedImage<'a> {
    /// Its position in the set.
    pub sample: usize,
    /// What the model sees of it: (S, S, 3) bytes, or the patches of a cloud. Empty if it cannot be read.
    pub pixels: &'a [u8],
    /// Its classes, the most likely first; or why there are none.
    pub classes: Result<Vec<ClassProbability>, String>,
}

/// Runs a program of class scores over a data set and predicts the `count` most likely classes of each image. `each`
/// gets every image in the order of the set, those that cannot be read included.
///
/// # Errors
/// No image that can be read, the errors of `each`, and those of the device.
pub fn predict_classes(
    forward: &InferenceProgram, data: &Arc<Dataset>, transform: Transform, threads: usize, count: usize,
    mut each: impl FnMut(PredictedImage<'_>) -> Result<()>,
) -> Result<()> {
    let bytes = transform.bytes();
    let broken = |sample: usize| {
        let reason = data.fault(sample).unwrap_or_default();
        PredictedImage { sample, pixels: &[], classes: Err(reason) }
    };
    let mut next = 0;
    forward.over(data, transform, threads, |scores, batch| {
        let rows = scores.chunks_exact(forward.width()).zip(batch.images.chunks_exact(bytes));
        for (&sample, (scores, pixels)) in batch.samples.iter().zip(rows) {
            (next..sample).map(broken).try_for_each(&mut each)?;
            let classes = most_likely(scores, count).ok_or_else(|| {
                let reason = format!("{}: its scores are not finite", data.sample_name(sample));
                tracing::warn!("{reason}");
                reason
            });
            each(PredictedImage { sample, pixels, classes })?;
            next = sample + 1;
        }
        Ok(())
    })?;
    (next..data.len()).map(broken).try_for_each(each)
}

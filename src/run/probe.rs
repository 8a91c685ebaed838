//! Features of labeled data sets, for the probes of [`infer::probe`](crate::infer::probe).

use std::sync::Arc;

use super::world::World;
use crate::data::{Dataset, Transform};
use crate::error::Result;
use crate::infer::probe::Features;
use crate::infer::program::InferenceProgram;

/// The features that the program `forward` computes of a labeled data set. The processes of `world` share the work, and
/// each has all features.
pub fn features(
    world: &World, forward: &InferenceProgram, data: &Arc<Dataset>, transform: Transform, threads: usize,
) -> Result<Features> {
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    forward.over_shared(world, data, transform, (threads, 0), |features, batch| {
        rows.extend_from_slice(features);
        labels.extend_from_slice(&batch.labels);
        Ok(())
    })?;
    Features::new(rows, forward.width(), labels)
}

//! One pass of a program over a data set.

use std::sync::Arc;

use crate::data::{Dataset, ImageBatch, Loader, LoaderOptions, Transform};
use crate::error::{Error, Result};
use crate::infer::program::InferenceProgram;

impl InferenceProgram {
    /// Runs over a data set once, in its order. `each` gets the output rows of a batch, and the batch: its labels,
    /// which are empty if the set has none, and which samples the rows are of. Broken images have no row.
    pub fn over(
        &self, data: &Arc<Dataset>, transform: Transform, threads: usize,
        each: impl FnMut(&[f32], &ImageBatch) -> Result<()>,
    ) -> Result<()> {
        self.over_views(data, transform, threads, 0, each)
    }

    /// [`InferenceProgram::over`] with a transform whose random choices are those of `seed`.
    pub fn over_views(
        &self, data: &Arc<Dataset>, transform: Transform, threads: usize, seed: u64,
        mut each: impl FnMut(&[f32], &ImageBatch) -> Result<()>,
    ) -> Result<()> {
        let options = LoaderOptions { threads, seed, ..LoaderOptions::new(self.batch(), transform) };
        for batch in Loader::eval(data.clone(), &options).map_err(Error::from)? {
            let batch = batch.map_err(Error::from)?;
            each(&pollster::block_on(self.run(&batch.images))?, &batch)?;
        }
        Ok(())
    }
}

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
        mut each: impl FnMut(&[f32], &ImageBatch) -> Result<()>,
    ) -> Result<()> {
        let options = LoaderOptions { threads, ..LoaderOptions::new(self.batch(), transform) };
        for batch in Loader::eval(data.clone(), &options).map_err(Error::from)? {
            let batch = batch.map_err(Error::from)?;
            each(&pollster::block_on(self.run(&batch.images))?, &batch)?;
        }
        Ok(())
    }
}

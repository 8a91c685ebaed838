//! A recorded forward pass over images that gives a row of numbers for each.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Program};
use crate::models::Config;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;
use crate::train::image_input::Images;

/// Images in bytes (B, S, S, 3) → rows (B, N).
#[derive(Debug)]
pub struct InferenceProgram {
    g: Gpu,
    images: Images,
    each: usize,
    program: Program,
    rows: Tensor,
}

impl InferenceProgram {
    /// Records a forward pass over `batch` images. `build` gets their patches (B, L, P·P·3) and returns rows (B, N).
    pub fn new(
        g: &Gpu, config: &Config, batch: usize, build: impl FnOnce(&mut Recorder, &Var) -> Result<Var>,
    ) -> Result<Self> {
        let images = Images::new(config, batch)?;
        let (recording, rows) = Recorder::inference(g).record(|r| {
            let patches = Var::constant(images.patches(r, config.input_patch())?);
            Ok(build(r, &patches)?.data)
        })?;
        let [_, _] = rows.dims("rows of a forward program")?;
        let each = config.sample_bytes();
        Ok(Self { g: g.clone(), images, each, program: Program::new(recording)?, rows })
    }

    /// Images B that a run takes.
    pub fn batch(&self) -> usize {
        self.rows.shape()[0]
    }

    /// Numbers N of a row.
    pub fn width(&self) -> usize {
        self.rows.shape()[1]
    }

    /// Images (n, S, S, 3) → rows (n, N). n is at most B.
    pub async fn run(&self, images: &[u8]) -> Result<Vec<f32>> {
        let count = images.len() / self.each;
        if count * self.each != images.len() || count > self.batch() {
            let expected = format!("up to {} images of {} bytes", self.batch(), self.each);
            return Err(Error::argument("images", format!("{} bytes", images.len()), expected));
        }
        // the last batch may be short: its samples are repeated, because a network on clouds sees the whole batch
        let whole: Vec<u8> = images.iter().copied().cycle().take(self.batch() * self.each).collect();
        self.images.write(&self.g, &whole, (0, 1))?;
        self.program.run()?;
        let mut rows = self.rows.to_vec_async(&self.g).await?;
        rows.truncate(count * self.width());
        Ok(rows)
    }
}

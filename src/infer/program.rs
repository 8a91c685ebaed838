//! A recorded forward pass over images or point clouds that gives a row of numbers for each.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Program};
use crate::models::Config;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;
use crate::train::image_input::Images;

type Build = dyn Fn(&mut Recorder, &Var) -> Result<Var>;

/// Images in bytes (B, S, S, 3) → rows (B, N).
pub struct InferenceProgram {
    g: Gpu,
    config: Config,
    batch: usize,
    build: Box<Build>,
    whole: Recorded,
    /// The program of the last batch that was short, for networks in which the samples of a batch see each other.
    short: RefCell<Option<Rc<Recorded>>>,
}

/// A program for one number of samples.
#[derive(Debug)]
struct Recorded {
    batch: usize,
    images: Images,
    program: Program,
    rows: Tensor,
}

impl Recorded {
    fn new(g: &Gpu, config: &Config, batch: usize, build: &Build) -> Result<Self> {
        let images = Images::new(config, batch)?;
        let (recording, rows) = Recorder::inference(g).record(|r| {
            let patches = Var::constant(images.patches(r, config.input_patch())?);
            Ok(build(r, &patches)?.data)
        })?;
        let [_, _] = rows.dims("rows of a forward program")?;
        Ok(Self { batch, images, program: Program::new(recording)?, rows })
    }
}

impl fmt::Debug for InferenceProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InferenceProgram({} of {}, {} numbers each)", self.batch, self.config.name, self.width())
    }
}

impl InferenceProgram {
    /// Records a forward pass over `batch` images. `build` gets their patches (B, L, P·P·3) and returns rows (B, N). It
    /// is called again for a short batch of point clouds.
    pub fn new(
        g: &Gpu, config: &Config, batch: usize, build: impl Fn(&mut Recorder, &Var) -> Result<Var> + 'static,
    ) -> Result<Self> {
        let whole = Recorded::new(g, config, batch, &build)?;
        let (g, config, build) = (g.clone(), config.clone(), Box::new(build));
        Ok(Self { g, config, batch, build, whole, short: RefCell::default() })
    }

    /// Images B that a run takes.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Numbers N of a row.
    pub fn width(&self) -> usize {
        self.whole.rows.shape()[1]
    }

    /// Images (n, S, S, 3) → rows (n, N). n is at most B. Fewer clouds than B are a batch of their own, because the
    /// local norms of their networks have statistics of the batch.
    pub async fn run(&self, images: &[u8]) -> Result<Vec<f32>> {
        let each = self.config.sample_bytes();
        let count = images.len() / each;
        if count * each != images.len() || count > self.batch {
            let expected = format!("up to {} {} of {each} bytes", self.batch, self.config.samples());
            return Err(Error::argument(self.config.samples(), format!("{} bytes", images.len()), expected));
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let short = (self.config.family.clouds && count < self.batch).then(|| self.short(count)).transpose()?;
        let recorded = short.as_deref().unwrap_or(&self.whole);
        let mut padded = images.to_vec();
        padded.resize(recorded.batch * each, 0);
        recorded.images.write(&self.g, &padded, (0, 1))?;
        recorded.program.run()?;
        let mut rows = recorded.rows.to_vec_async(&self.g).await?;
        rows.truncate(count * self.width());
        Ok(rows)
    }

    fn short(&self, count: usize) -> Result<Rc<Recorded>> {
        let mut last = self.short.borrow_mut();
        if let Some(known) = last.as_ref().filter(|known| known.batch == count) {
            return Ok(known.clone());
        }
        let made = Rc::new(Recorded::new(&self.g, &self.config, count, &*self.build)?);
        *last = Some(made.clone());
        Ok(made)
    }
}

//! One pretraining step as a program: images and a mask in, weights moved, the loss out. A program per visible length.

use super::fit;
use super::images::{Images, share};
use super::mask::Mask;
use super::optimizer::Group;
use super::update::{Hyper, Update};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, Plan, Program, Recording};
use crate::models::{Batch, Config, Map};
use crate::nn::{Entry, Params};
use crate::ops::rng;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Programs of different visible lengths that are kept: the 80 lengths of a drawn ratio at 14×14 tokens.
const KEPT: usize = 96;
/// DropPath's stream of random numbers.
const DROP_PATH: u32 = 1;

/// The host's side of a batch: what every program of a run reads.
#[derive(Debug, Clone)]
pub struct Inputs {
    images: Images,
    inverse: Tensor,
    mask: Tensor,
    batch: usize,
    tokens: usize,
}

impl Inputs {
    /// Buffers for `batch` square images of the model's size.
    pub fn new(config: &Config, batch: usize) -> Result<Self> {
        let tokens = config.tokens();
        Ok(Self {
            images: Images::new(config, batch)?,
            inverse: Tensor::input("inverse", &[batch, tokens]),
            mask: Tensor::input("mask", &[batch, tokens]),
            batch,
            tokens,
        })
    }

    /// Launches the patches of the uploaded images and names the tables of a batch with `visible` tokens.
    pub fn batch(&self, g: &Gpu, config: &Config, visible: &Tensor) -> Result<Batch> {
        let [_, len] = visible.dims("visible")?;
        if len == 0 || len > self.tokens {
            return Err(Error::argument("visible tokens", len, format!("1 to {}", self.tokens)));
        }
        let counted = if len == self.tokens { self.tokens } else { self.tokens - len };
        Ok(Batch {
            patches: self.images.patches(g, config)?,
            visible: visible.clone(),
            inverse: self.inverse.clone(),
            mask: self.mask.clone(),
            scale: 1.0 / (self.batch * counted) as f32,
        })
    }

    /// Uploads micro-batch `part` of the `parts` that images (parts · B, S, S, 3) in bytes and a mask hold.
    pub fn write(&self, g: &Gpu, images: &[u8], mask: &Mask, visible: &Tensor, part: (usize, usize)) -> Result<()> {
        self.images.write(g, images, part)?;
        self.inverse.write(g, share(&mask.inverse, part))?;
        self.mask.write(g, share(&mask.mask, part))?;
        visible.write(g, share(&mask.visible, part))
    }
}

#[derive(Debug)]
struct Step {
    program: Program,
    visible: Tensor,
    loss: Tensor,
}

/// A model being pretrained.
#[derive(Debug)]
pub struct Pretrainer {
    g: Gpu,
    config: Config,
    hyper: Hyper,
    /// The weights.
    pub params: Params,
    model: Map,
    inputs: Inputs,
    drop_path: Tensor,
    update: Update,
    steps: Vec<Step>,
}

impl Pretrainer {
    /// A model with weights drawn from `seed` (none on a device that only plans), for micro-batches of `batch` images.
    pub fn new(g: &Gpu, config: &Config, batch: usize, hyper: Hyper, seed: u64) -> Result<Self> {
        let mut params = Params::new(g);
        let model = Map::new(g, &mut params, config)?;
        let drops: Vec<f32> = config.drop_path_rates().into_iter().map(|rate| rate as f32).collect();
        let trainer = Self {
            drop_path: Tensor::from_slice(g, &[drops.len()], &drops)?,
            inputs: Inputs::new(config, batch)?,
            g: g.clone(),
            config: config.clone(),
            hyper,
            update: Update::new(g, &params, hyper)?,
            params,
            model,
            steps: Vec::new(),
        };
        if !g.is_dry() {
            trainer.params.init(g, seed)?;
        }
        Ok(trainer)
    }

    /// The model.
    pub fn model(&self) -> &Map {
        &self.model
    }

    /// Launches of a micro-batch with `visible` tokens per image: (recording, indices to upload, loss).
    pub fn record(&mut self, visible: usize) -> Result<(Recording, (Tensor, Tensor))> {
        let Self { g, config, hyper, params, model, inputs, drop_path, update, .. } = self;
        g.record(|| {
            let table = Tensor::input("visible", &[inputs.batch, visible]);
            let batch = inputs.batch(g, config, &table)?;
            let mut t = Tape::new();
            let keep = if config.drop_path > 0.0 {
                let (rows, stride) = (drop_path.len(), inputs.batch.next_multiple_of(64));
                Some(rng::keep(g, update.state(), DROP_PATH, drop_path, rows, inputs.batch, stride)?)
            } else {
                None
            };
            let out = model.forward(g, &mut t, &batch, keep.as_ref())?;
            let group = |entry: &Entry| Group { lr_scale: 1.0, weight_decay: hyper.decay_of(entry) };
            let loss = update.launch(t, &out.loss, params, group)?;
            Ok((table, loss))
        })
    }

    /// The memory plan of a step.
    pub fn plan(&mut self, visible: usize) -> Result<Plan> {
        let (recording, kept) = self.record(visible)?;
        let plan = Plan::new(&recording.then(self.update.record(&self.params)?))?;
        drop(kept);
        Ok(plan)
    }

    /// Prepares the program of a visible length; preparing the largest first lets all others share its buffers.
    pub fn prepare(&mut self, visible: usize) -> Result<()> {
        if self.position(visible).is_some() {
            return Ok(());
        }
        let (recording, (table, loss)) = self.record(visible)?;
        let program = Program::new(&self.g, recording)?;
        self.update.prepare(&self.params)?;
        self.steps.truncate(KEPT - 1);
        self.steps.insert(0, Step { program, visible: table, loss });
        Ok(())
    }

    fn position(&self, visible: usize) -> Option<usize> {
        self.steps.iter().position(|s| s.visible.shape()[1] == visible)
    }

    /// Submits step `step` (from 0) on images (B, S, S, 3), B all images of its micro-batches. Returns where the loss will be.
    pub fn step(&mut self, images: &[u8], mask: &Mask, step: u64, lr: f64) -> Result<&Tensor> {
        self.each_part(images, mask, step, lr, |program| program.run().map(|()| None::<()>))?;
        self.update.finish()?;
        Ok(&self.steps[0].loss)
    }

    /// Goes through a step again whose loss was no number, and says what is not finite first.
    #[cfg(feature = "native")]
    pub fn find_not_finite(&mut self, images: &[u8], mask: &Mask, step: u64) -> Result<Option<String>> {
        if let Some((name, value)) = pollster::block_on(self.params.find_not_finite(&self.g))? {
            return Ok(Some(format!("the parameter `{name}` holds {value}")));
        }
        let found = self.each_part(images, mask, step, 0.0, Program::find_not_finite)?;
        Ok(found.map(|found| found.to_string()))
    }

    /// Uploads each micro-batch and hands its program to `run`, until that finds something.
    fn each_part<T>(
        &mut self, images: &[u8], mask: &Mask, step: u64, lr: f64, run: impl Fn(&Program) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        self.prepare(mask.visible_len)?;
        let at = self.position(mask.visible_len).unwrap_or_default();
        let recent = self.steps.remove(at);
        self.steps.insert(0, recent);
        let recent = &self.steps[0];
        let parts = self.update.parts();
        for part in 0..parts {
            self.inputs.write(&self.g, images, mask, &recent.visible, (part, parts))?;
            self.update.begin(step, part, lr)?;
            if let Some(found) = run(&recent.program)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Checks that a step fits the adapter, before anything is allocated.
///
/// # Errors
/// [`Error::OutOfMemory`] with the numbers and the largest batch that fits.
pub fn expect_fit(caps: &Caps, config: &Config, hyper: Hyper, visible: usize, batch: usize) -> Result<()> {
    fit::expect_fit(caps, batch, |g, batch| Pretrainer::new(g, config, batch, hyper, 0)?.plan(visible))
}

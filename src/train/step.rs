//! One pretraining step as a program: images and a mask in, weights moved, the loss out. A program per visible length.

use super::mask::Mask;
use super::optimizer::Group;
use super::update::{Hyper, Update};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, Plan, Program, Recording};
use crate::models::{Batch, Config, Map};
use crate::nn::{Entry, Params};
use crate::ops::{patchify, rng};
use crate::tape::Tape;
use crate::tensor::Tensor;

/// ImageNet's channel means in [0, 1].
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's channel deviations in [0, 1].
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Programs of different visible lengths that are kept: the 80 lengths of a drawn ratio at 14×14 tokens.
const KEPT: usize = 96;
/// DropPath's stream of random numbers.
const DROP_PATH: u32 = 1;

/// The host's side of a batch: what every program of a run reads.
#[derive(Debug, Clone)]
pub struct Inputs {
    images: Tensor,
    inverse: Tensor,
    mask: Tensor,
    batch: usize,
    side: usize,
    tokens: usize,
}

impl Inputs {
    /// Buffers for `batch` square images of the model's size.
    pub fn new(config: &Config, batch: usize) -> Result<Self> {
        if batch == 0 {
            return Err(Error::argument("batch size", 0, "at least 1"));
        }
        let (side, tokens) = (config.image_size, config.tokens());
        let words = (batch * side * side * 3).div_ceil(4);
        Ok(Self {
            images: Tensor::input("images", &[words]),
            inverse: Tensor::input("inverse", &[batch, tokens]),
            mask: Tensor::input("mask", &[batch, tokens]),
            batch,
            side,
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
        let shape = [self.batch, self.side, self.side];
        Ok(Batch {
            patches: patchify::from_u8(g, &self.images, shape, config.patch_size, MEAN, STD)?,
            visible: visible.clone(),
            inverse: self.inverse.clone(),
            mask: self.mask.clone(),
            scale: 1.0 / (self.batch * counted) as f32,
        })
    }

    /// Uploads images (B, S, S, 3) in bytes and a mask.
    pub fn write(&self, g: &Gpu, images: &[u8], mask: &Mask, visible: &Tensor) -> Result<()> {
        self.write_part(g, images, mask, visible, (0, 1))
    }

    /// The same with micro-batch `part` of the `parts` that images and mask hold.
    fn write_part(
        &self, g: &Gpu, images: &[u8], mask: &Mask, visible: &Tensor, (part, parts): (usize, usize),
    ) -> Result<()> {
        let each = self.batch * self.side * self.side * 3;
        if images.len() != each * parts {
            let expected = format!("{} bytes", each * parts);
            return Err(Error::argument("images", format!("{} bytes", images.len()), expected));
        }
        let images = &images[part * each..][..each];
        if each.is_multiple_of(4) {
            self.images.write(g, images)?;
        } else {
            let mut padded = images.to_vec();
            padded.resize(each.next_multiple_of(4), 0);
            self.images.write(g, &padded)?;
        }
        fn share<T>(all: &[T], part: usize, parts: usize) -> &[T] {
            let each = all.len() / parts;
            &all[part * each..][..each]
        }
        self.inverse.write(g, share(&mask.inverse, part, parts))?;
        self.mask.write(g, share(&mask.mask, part, parts))?;
        visible.write(g, share(&mask.visible, part, parts))
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
        self.prepare(mask.visible_len)?;
        let at = self.position(mask.visible_len).unwrap_or_default();
        let recent = self.steps.remove(at);
        self.steps.insert(0, recent);
        let recent = &self.steps[0];
        let parts = self.update.parts();
        for part in 0..parts {
            self.inputs.write_part(&self.g, images, mask, &recent.visible, (part, parts))?;
            self.update.begin(step, part, lr)?;
            recent.program.run()?;
        }
        self.update.finish()?;
        Ok(&recent.loss)
    }
}

/// Checks that a step fits the adapter, before anything is allocated.
///
/// # Errors
/// [`Error::OutOfMemory`] with the numbers and the largest batch that fits.
pub fn expect_fit(caps: &Caps, config: &Config, hyper: Hyper, visible: usize, batch: usize) -> Result<()> {
    let planned = |batch| {
        Pretrainer::new(&Gpu::dry(caps.clone()), config, batch, hyper, 0)
            .and_then(|mut trainer| trainer.plan(visible))
            .and_then(|plan| plan.fits(caps))
    };
    let Err(e) = planned(batch) else { return Ok(()) };
    Err(match planned(1) {
        Ok(()) => {
            let fitting = largest_batch(caps, config, hyper, visible, batch);
            let advice = format!("the largest --batch-size that fits is {fitting}");
            Error::OutOfMemory(format!("--batch-size {batch}: {}\n{advice}", reason(&e)))
        }
        Err(e @ (Error::OutOfMemory(_) | Error::Limit { .. })) => {
            Error::OutOfMemory(format!("not even one image at a time fits: {}", reason(&e)))
        }
        Err(other) => other,
    })
}

/// What an error says besides its kind.
fn reason(e: &Error) -> String {
    match e {
        Error::OutOfMemory(text) => text.trim_end().into(),
        other => other.to_string(),
    }
}

/// The largest batch whose plan fits the adapter, by recording on a device that only plans.
pub fn largest_batch(caps: &Caps, config: &Config, hyper: Hyper, visible: usize, below: usize) -> usize {
    let fits = |batch: usize| {
        let dry = Gpu::dry(caps.clone());
        let planned = Pretrainer::new(&dry, config, batch, hyper, 0).and_then(|mut t| t.plan(visible));
        planned.and_then(|plan| plan.fits(caps)).is_ok()
    };
    let (mut low, mut high) = (0, below);
    while low + 1 < high {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    low
}

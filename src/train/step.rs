//! One pretraining step as a program: images and a mask in, weights moved, the loss out. A program per visible length.

use super::drop_path::DropPath;
use super::fit;
use super::images::{Images, share};
use super::loss_scaler::LossScaler;
use super::mask::Mask;
use super::optimizer::Group;
use super::update::{Hyper, Update, tuned};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, Plan, Program, Recording};
use crate::models::{Batch, Config, Objective, Pretext};
use crate::nn::{Entry, Params};
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Programs of different visible lengths that are kept: the 80 lengths of a drawn ratio at 14×14 tokens.
const KEPT: usize = 96;

/// The host's side of a batch: what every program of a run reads.
#[derive(Debug, Clone)]
pub struct Inputs {
    images: Images,
    /// The second crop of each image.
    second: Option<Images>,
    inverse: Tensor,
    mask: Tensor,
    /// Position of each token among the counted ones, for losses of those alone.
    counted: Option<Tensor>,
    batch: usize,
    tokens: usize,
}

/// The tables of a batch whose size depends on the visible length.
#[derive(Debug, Clone)]
pub struct Tables {
    visible: Tensor,
    counted: Option<Tensor>,
}

impl Tables {
    /// Counted tokens of the whole batch; none unless the model reads them.
    pub fn counted_tokens(&self) -> usize {
        self.counted.as_ref().map_or(0, Tensor::len)
    }
}

impl Inputs {
    /// Buffers for `batch` square images of the model's size.
    pub fn new(config: &Config, batch: usize) -> Result<Self> {
        let tokens = config.tokens();
        Ok(Self {
            images: Images::new(config, batch)?,
            second: None,
            inverse: Tensor::input("inverse", &[batch, tokens]),
            counted: None,
            mask: Tensor::input("mask", &[batch, tokens]),
            batch,
            tokens,
        })
    }

    /// The same with all that `model` reads.
    pub fn of(mut self, config: &Config, model: &Pretext) -> Result<Self> {
        self.second = (model.crops() > 1).then(|| Images::new(config, self.batch)).transpose()?;
        self.counted = model.reads_counted().then(|| Tensor::input("counted", &[self.batch, self.tokens]));
        Ok(self)
    }

    /// Tables for `visible` tokens of each image.
    pub fn tables(&self, visible: usize) -> Result<Tables> {
        if !(1..=self.tokens).contains(&visible) {
            return Err(Error::argument("visible tokens", visible, format!("1 to {}", self.tokens)));
        }
        let table = |label, len: usize| Tensor::input(label, &[self.batch, len]);
        let counted = self.counted.as_ref().map(|_| table("counted", self.counted(visible)));
        Ok(Tables { visible: table("visible", visible), counted })
    }

    /// Tokens of an image whose loss counts if so many are visible.
    fn counted(&self, visible: usize) -> usize {
        if visible == self.tokens { self.tokens } else { self.tokens - visible }
    }

    /// Launches the patches of the uploaded images and names the tables of a batch.
    pub fn batch(&self, g: &Gpu, config: &Config, tables: &Tables) -> Result<Batch> {
        let counted = self.counted(tables.visible.shape()[1]);
        Ok(Batch {
            patches: self.images.patches(g, config)?,
            second: self.second.as_ref().map(|images| images.patches(g, config)).transpose()?,
            visible: tables.visible.clone(),
            inverse: self.inverse.clone(),
            mask: self.mask.clone(),
            scale: 1.0 / (self.batch * counted) as f32,
            counted: tables.counted.clone().zip(self.counted.clone()),
        })
    }

    /// Uploads micro-batch `part` of the `parts` that images (parts · B, S, S, 3) in bytes, the second crops behind all first
    /// ones, and a mask hold.
    pub fn write(&self, g: &Gpu, images: &[u8], mask: &Mask, tables: &Tables, part: (usize, usize)) -> Result<()> {
        let (first, second) = match &self.second {
            Some(_) => images.split_at(images.len() / 2),
            None => (images, &[][..]),
        };
        self.images.write(g, first, part)?;
        self.second.as_ref().map_or(Ok(()), |images| images.write(g, second, part))?;
        self.inverse.write(g, share(&mask.inverse, part))?;
        self.mask.write(g, share(&mask.mask, part))?;
        if let Some((table, inverse)) = tables.counted.as_ref().zip(self.counted.as_ref()) {
            let (counted, columns) = mask.counted();
            table.write(g, share(&counted, part))?;
            inverse.write(g, share(&columns, part))?;
        }
        tables.visible.write(g, share(&mask.visible, part))
    }
}

#[derive(Debug)]
struct Step {
    program: Program,
    tables: Tables,
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
    model: Pretext,
    inputs: Inputs,
    drop_path: DropPath,
    update: Update,
    steps: Vec<Step>,
}

impl Pretrainer {
    /// A model with weights drawn from `seed` (none on a device that only plans), for micro-batches of `batch` images.
    pub fn new(g: &Gpu, config: &Config, objective: &Objective, batch: usize, hyper: Hyper, seed: u64) -> Result<Self> {
        let mut params = Params::new(g);
        let model = Pretext::new(g, &mut params, config, objective)?;
        let mut update = Update::new(g, &params, hyper)?;
        if let Pretext::Contrastive(model) = &model {
            update.follow(&model.keys, objective.key_momentum)?;
        }
        let trainer = Self {
            drop_path: DropPath::new(g, config)?,
            inputs: Inputs::new(config, batch)?.of(config, &model)?,
            g: g.clone(),
            config: config.clone(),
            hyper,
            update,
            params,
            model,
            steps: Vec::new(),
        };
        if !g.is_dry() {
            trainer.params.init(g, seed)?;
            trainer.model.init(g, &trainer.params, seed)?;
        }
        Ok(trainer)
    }

    /// What scales the loss, if anything does.
    pub fn scaler(&self) -> Option<&LossScaler> {
        self.update.scaler()
    }

    /// The model.
    pub fn model(&self) -> &Pretext {
        &self.model
    }

    /// Launches of a micro-batch with `visible` tokens per image: (recording, tables to upload, loss).
    pub fn record(&mut self, visible: usize) -> Result<(Recording, (Tables, Tensor))> {
        let Self { g, config, hyper, params, model, inputs, drop_path, update, .. } = self;
        let _precision = g.set_precision(hyper.precision);
        let (mut recording, kept) = g.record(|| {
            let tables = inputs.tables(visible)?;
            let batch = inputs.batch(g, config, &tables)?;
            let mut t = Tape::checkpointing(hyper.checkpoint_blocks);
            let keep = drop_path.draw(g, update.state(), inputs.batch)?;
            let out = model.forward(g, &mut t, &batch, keep.as_ref(), update.state())?;
            let group = |entry: &Entry| Group { lr_scale: 1.0, weight_decay: hyper.decay_of(entry) };
            let loss = update.launch(t, &out.loss, params, group)?;
            model.finish(g, update.state(), &out)?;
            Ok((tables, loss))
        })?;
        recording.drop_unread();
        Ok((recording, kept))
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
        let (g, hyper) = (self.g.clone(), self.hyper);
        let (recording, (tables, loss)) = tuned(&g, &hyper, || self.record(visible))?;
        let program = Program::new(&self.g, recording)?;
        self.update.prepare(&self.params)?;
        self.steps.truncate(KEPT - 1);
        self.steps.insert(0, Step { program, tables, loss });
        Ok(())
    }

    fn position(&self, visible: usize) -> Option<usize> {
        self.steps.iter().position(|s| s.tables.visible.shape()[1] == visible)
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
            self.inputs.write(&self.g, images, mask, &recent.tables, (part, parts))?;
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
pub fn expect_fit(
    caps: &Caps, config: &Config, objective: &Objective, hyper: Hyper, visible: usize, batch: usize,
) -> Result<()> {
    let plan = |g: &Gpu, batch, hyper| Pretrainer::new(g, config, objective, batch, hyper, 0)?.plan(visible);
    fit::expect_fit(caps, batch, hyper, plan)
}

//! One pretraining step: images and a mask go in, the weights move, the loss comes out. A step is recorded once for
//! each number of visible tokens, and replayed.

use super::inputs::{PretrainInputs, Tables};
use super::mask::tables::PatchMask;
use crate::error::Result;
use crate::gpu::{Caps, Gpu, Plan, Program, Recording};
use crate::models::{Config, Objective, Pretext, pretext_model};
use crate::nn::{Entry, Params, Weights};
use crate::ops::parts::join;
use crate::tape::Recorder;
use crate::tensor::Tensor;
use crate::train::cuts::Cuts;
use crate::train::drop_path::DropPath;
use crate::train::exchange::Exchange;
use crate::train::loss_scaler::LossScaler;
use crate::train::memory_check as fit;
use crate::train::optimizer::Group;
use crate::train::update::{Hyper, Update, tuned};

/// Largest number of recorded steps that are kept. A drawn mask ratio at 14 × 14 tokens has 80 different numbers of
/// visible tokens.
const KEPT: usize = 96;

#[derive(Debug)]
struct Step {
    program: Program,
    cuts: Cuts,
    tables: Tables,
    loss: Tensor,
}

/// A model being pretrained: weights, optimizer, and the recorded steps.
#[derive(Debug)]
pub struct Pretrainer {
    g: Gpu,
    hyper: Hyper,
    /// The weights.
    pub params: Params,
    model: Box<dyn Pretext>,
    inputs: PretrainInputs,
    drop_path: DropPath,
    update: Update,
    steps: Vec<Step>,
}

impl Pretrainer {
    /// A model with weights drawn from `seed`, for micro-batches of `batch` images. A device that only plans draws
    /// nothing.
    pub fn new(g: &Gpu, config: &Config, objective: &Objective, batch: usize, hyper: Hyper, seed: u64) -> Result<Self> {
        let mut params = Params::new(g);
        let mut model = pretext_model(g, &mut params, config, objective)?;
        let mut update = Update::new(g, &params, hyper)?;
        for (follower, momentum) in model.followers() {
            update.follow(follower, momentum)?;
            update.runs_beside(follower)?;
        }
        if !update.at_once()
            && let Some(rows) = model.collect(batch)
        {
            update.collect(&rows)?;
        }
        let trainer = Self {
            drop_path: DropPath::new(g, config)?,
            inputs: PretrainInputs::new(config, batch)?.of(config, &*model)?,
            g: g.clone(),
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

    /// Takes these weights in place of the initial ones.
    ///
    /// # Errors
    /// Weights of another model.
    pub fn start_from(&self, weights: &Weights, seed: u64) -> Result<()> {
        self.params.load(&self.g, weights)?;
        self.model.init(&self.g, &self.params, seed)
    }

    /// Lets this process share the micro-batches of each step with others.
    pub fn join(&mut self, exchange: Option<Box<dyn Exchange>>) {
        self.update.join(exchange);
    }

    /// The loss scaler; `None` in f32.
    pub fn scaler(&self) -> Option<&LossScaler> {
        self.update.scaler()
    }

    /// The model.
    pub fn model(&self) -> &dyn Pretext {
        &*self.model
    }

    /// Records a micro-batch with `visible` tokens per image. Returns (recording, tables to upload, loss).
    pub fn record(&mut self, visible: usize) -> Result<(Recording, (Tables, Tensor))> {
        let Self { g, hyper, params, model, inputs, drop_path, update, .. } = self;
        let (mut recording, kept) = hyper.recorder(g).record(|r| {
            let tables = inputs.tables(visible)?;
            let batch = inputs.batch(r, &tables)?;
            let drop_path = drop_path.draw(r, update.state(), inputs.batch)?;
            let out = model.forward(r, &batch, drop_path.as_ref(), update.state())?;
            let group = |entry: &Entry| Group { lr_scale: 1.0, weight_decay: hyper.decay_of(entry) };
            let loss = update.launch(r, &out.loss, params, group)?;
            match update.at_once() {
                true => model.finish(r, update.state(), &out.kept)?,
                false => model.keep(r, &out.kept)?,
            }
            Ok((tables, loss))
        })?;
        recording.drop_unread();
        join(&mut recording)?;
        Ok((recording, kept))
    }

    /// The memory plan of a step with `visible` tokens per image.
    pub fn plan(&mut self, visible: usize) -> Result<Plan> {
        let (recording, kept) = self.record(visible)?;
        let Self { params, model, update, .. } = &*self;
        let plan =
            Plan::new(&recording.then(update.record(params, &|r, rows| last(&**model, update.state(), r, rows))?))?;
        drop(kept);
        Ok(plan)
    }

    /// Builds the program for `visible` tokens per image. Build the one with most tokens first: the others share its
    /// buffers.
    pub fn prepare(&mut self, visible: usize) -> Result<()> {
        if self.position(visible).is_some() {
            return Ok(());
        }
        let (g, hyper) = (self.g.clone(), self.hyper);
        let mut others = self.update.leave();
        let recorded = tuned(&g, &hyper, &mut others, || self.record(visible));
        self.update.join(others);
        let (mut recording, (tables, loss)) = recorded?;
        let cuts = self.update.cut(&mut recording)?;
        let program = Program::new(recording)?;
        let Self { params, model, update, .. } = self;
        let state = update.state().clone();
        update.prepare(params, &|r, rows| last(&**model, &state, r, rows))?;
        self.steps.truncate(KEPT - 1);
        self.steps.insert(0, Step { program, cuts, tables, loss });
        Ok(())
    }

    fn position(&self, visible: usize) -> Option<usize> {
        self.steps.iter().position(|s| s.tables.visible_len() == visible)
    }

    /// Submits step number `step`, counted from 0, on images (B, S, S, 3), where B counts all images of the
    /// micro-batches that this process computes. Returns the tensor that will hold the loss.
    pub fn step(&mut self, images: &[u8], mask: &PatchMask, step: u64, lr: f64) -> Result<&Tensor> {
        let run = |Step { program, cuts, .. }: &Step, update: &mut Update, part| {
            update.run(program, cuts, &mut |_| Ok(()))?;
            update.add(part).map(|()| None::<()>)
        };
        self.each_part(images, mask, step, lr, run)?;
        self.update.finish()?;
        Ok(&self.steps[0].loss)
    }

    /// Repeats a step whose loss was not finite, inspecting every tensor, and names the first that is not finite:
    /// `torch.autograd.set_detect_anomaly` for one step.
    #[cfg(feature = "files")]
    pub fn find_not_finite(&mut self, images: &[u8], mask: &PatchMask, step: u64) -> Result<Option<String>> {
        if let Some((name, value)) = pollster::block_on(self.params.find_not_finite(&self.g))? {
            return Ok(Some(format!("the parameter `{name}` holds {value}")));
        }
        let found = self.each_part(images, mask, step, 0.0, |step, _, _| step.program.find_not_finite(|_| Ok(())))?;
        Ok(found.map(|found| found.to_string()))
    }

    /// Uploads each micro-batch and passes its program to `run`, until that returns something.
    fn each_part<T>(
        &mut self, images: &[u8], mask: &PatchMask, step: u64, lr: f64,
        run: impl Fn(&Step, &mut Update, usize) -> Result<Option<T>>,
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
            if let Some(found) = run(recent, &mut self.update, part)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Launches what a method does after the update of a step of several micro-batches.
fn last(model: &dyn Pretext, state: &Tensor, r: &mut Recorder, collected: Option<&Tensor>) -> Result<()> {
    model.finish(r, state, &collected.into_iter().cloned().collect::<Vec<_>>())
}

/// Refuses a step that does not fit the adapter, before anything is allocated.
///
/// # Errors
/// [`OutOfMemory`](crate::error::Error::OutOfMemory) with the plan's size and the largest batch that fits.
pub fn expect_fit(
    caps: &Caps, config: &Config, objective: &Objective, hyper: Hyper, visible: usize, batch: usize,
) -> Result<()> {
    let plan = |g: &Gpu, batch, hyper| Pretrainer::new(g, config, objective, batch, hyper, 0)?.plan(visible);
    fit::expect_fit(caps, batch, hyper, plan)
}

//! One step of training on labeled samples: samples go in, the weights move, the loss comes out. It is recorded once
//! and replayed. What differs between tasks is a [`Supervised`].

use std::fmt;
use std::path::{Path, PathBuf};

use crate::data::Place;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Plan, Program, Recording};
use crate::models::Config;
use crate::nn::{Entry, Params};
use crate::ops::parts::join;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;
use crate::train::checkpoint::AVERAGE;
use crate::train::cuts::Cuts;
use crate::train::drop_path::DropPath;
use crate::train::exchange::Exchange;
use crate::train::loss_scaler::LossScaler;
use crate::train::memory_check::expect_fit;
use crate::train::optimizer::Group;
use crate::train::settings::RunSettings;
use crate::train::update::{Hyper, Update, nothing, tuned};

/// Numbers of a step that only training on labels has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    /// Factor on the learning rate from each layer to the one before it, BEiT's layer-wise decay; 1 for one rate
    /// everywhere.
    pub layer_decay: f64,
    /// Momentum of the moving average of the weights; `None` keeps no average.
    pub average: Option<f64>,
    /// Whether layers are told by their names, as the official code of a dense task does.
    pub by_name: bool,
}

impl Tuning {
    /// Refuses numbers out of range.
    ///
    /// # Errors
    /// Which number, and what was expected.
    pub fn check(&self) -> Result<()> {
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            return Err(Error::argument("layer_decay", self.layer_decay, "above 0, at most 1 (off)"));
        }
        let momentum = self.average.unwrap_or(0.0);
        match (0.0..1.0).contains(&momentum) {
            true => Ok(()),
            false => Err(Error::argument("model_ema", momentum, "0 to below 1")),
        }
    }
}

/// Settings of training on labels.
pub trait SupervisedSettings: AsRef<RunSettings> {
    /// Pretrained checkpoint that the weights come from; `None` starts from initial values.
    fn checkpoint(&self) -> Option<&Path>;
    /// The same settings, from another checkpoint.
    #[must_use]
    fn starting_from(self, checkpoint: Option<PathBuf>) -> Self;
    /// The numbers of a step that only training on labels has.
    fn tuning(&self) -> Tuning;
    /// Refuses settings that cannot work, before anything is opened.
    ///
    /// # Errors
    /// What is refused, and what was expected.
    fn check(&self) -> Result<()>;
}

/// A micro-batch of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the step, from 0.
    pub step: u64,
    /// Number of the micro-batch in its step, over all processes.
    pub part: usize,
}

/// What a task adds to a step: its network, the buffers that the host fills, and the loss.
pub trait Supervised: fmt::Debug + Sized {
    /// The network.
    type Model: fmt::Debug;
    /// Samples and labels of all micro-batches of a step that this process computes.
    type Batch<'a>: Copy;

    /// A network with its parameters in `params`.
    ///
    /// # Errors
    /// A configuration of another task.
    fn model(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self::Model>;

    /// Buffers for a micro-batch of `batch` samples.
    ///
    /// # Errors
    /// A configuration of another task.
    fn new(g: &Gpu, config: &Config, batch: usize) -> Result<Self>;

    /// Launches the forward pass over what the buffers hold, and returns the mean loss (1) of the micro-batch. `state`
    /// is the [`StepState`](crate::ops::step::StepState), for what is drawn at random besides DropPath.
    fn loss(&mut self, r: &mut Recorder, model: &Self::Model, drop_path: &DropPath, state: &Tensor) -> Result<Var>;

    /// How many layers from the last one a parameter is: its learning rate decays by as many factors.
    fn depth(config: &Config, name: &str) -> usize;

    /// The same where the official code of the task tells layers by their names, and misses some.
    fn depth_by_name(config: &Config, name: &str) -> usize {
        Self::depth(config, name)
    }

    /// Uploads micro-batch `part` of `parts`.
    ///
    /// # Errors
    /// A batch of another length.
    fn write(&self, g: &Gpu, batch: Self::Batch<'_>, part: (usize, usize)) -> Result<()>;

    /// What the host does between two parts of the recording ([`Recording::mark`]), once part `done` is submitted.
    fn between(&self, _: &Gpu, _batch: Self::Batch<'_>, _part: (usize, usize), _: Moment, _done: u32) -> Result<()> {
        Ok(())
    }
}

/// A network being trained: weights, their average, optimizer, and the recorded step.
#[derive(Debug)]
pub struct Trainer<T: Supervised> {
    g: Gpu,
    config: Config,
    hyper: Hyper,
    tuning: Tuning,
    /// The weights.
    pub params: Params,
    model: T::Model,
    average: Option<(Params, T::Model)>,
    task: T,
    drop_path: DropPath,
    update: Update,
    program: Option<Step>,
}

/// A recorded micro-batch.
#[derive(Debug)]
struct Step {
    program: Program,
    cuts: Cuts,
    loss: Tensor,
}

impl<T: Supervised> Trainer<T> {
    /// A network with weights drawn from `seed`, for micro-batches of `batch` samples. A device that only plans draws
    /// nothing.
    ///
    /// # Errors
    /// A configuration of another task, numbers out of range.
    pub fn new(g: &Gpu, config: &Config, batch: usize, hyper: Hyper, tuning: Tuning, seed: u64) -> Result<Self> {
        let mut params = Params::new(g);
        let model = T::model(g, &mut params, config)?;
        let mut update = Update::new(g, &params, hyper)?;
        let average = match tuning.average {
            Some(m) => {
                let mut average = Params::new(g);
                let model = T::model(g, &mut average, config)?;
                update.follow(&average, m)?;
                Some((average, model))
            }
            None => None,
        };
        let trainer = Self {
            task: T::new(g, config, batch)?,
            drop_path: DropPath::new(g, config)?,
            g: g.clone(),
            config: config.clone(),
            hyper,
            tuning,
            params,
            model,
            average,
            update,
            program: None,
        };
        if !g.is_dry() {
            trainer.params.init(g, seed)?;
            trainer.start_average()?;
        }
        Ok(trainer)
    }

    /// A trainer for the micro-batches of a run, at its `place` among several processes.
    ///
    /// # Errors
    /// Also a step that does not fit the adapter, before anything is allocated.
    pub fn fitting(g: &Gpu, config: &Config, run: &RunSettings, place: Place, tuning: Tuning) -> Result<Self> {
        let (batch, hyper) = (run.batch_size, Hyper { place, ..run.hyper()? });
        let plan = |g: &Gpu, batch, hyper| Self::new(g, config, batch, hyper, tuning, 0)?.plan();
        expect_fit(g.caps(), batch, hyper, plan)?;
        Self::new(g, config, batch, hyper, tuning, run.seed)
    }

    /// The network.
    pub fn model(&self) -> &T::Model {
        &self.model
    }

    /// Lets this process share the micro-batches of each step with others.
    pub fn join(&mut self, exchange: Option<Box<dyn Exchange>>) {
        self.update.join(exchange);
    }

    /// The loss scaler; `None` in f32.
    pub fn scaler(&self) -> Option<&LossScaler> {
        self.update.scaler()
    }

    /// The moving average of the weights, and a network that reads it.
    pub fn average(&self) -> Option<&(Params, T::Model)> {
        self.average.as_ref()
    }

    /// Weights that training changes besides the network's, with the names of their files.
    pub fn companions(&self) -> Vec<(&'static str, &Params)> {
        let average = self.average().map(|(params, _)| (AVERAGE, params));
        average.into_iter().chain(self.scaler().map(LossScaler::companion)).collect()
    }

    /// Copies the weights into their moving average, as at the start of a run.
    pub fn start_average(&self) -> Result<()> {
        let Some((average, _)) = &self.average else { return Ok(()) };
        let mut r = Recorder::inference(&self.g);
        for (to, from) in average.flat_tensors().iter().zip(self.params.flat_tensors()) {
            to.copy_from(&mut r, &from)?;
        }
        r.run()
    }

    /// Records a micro-batch. Returns (recording, loss).
    pub fn record(&mut self) -> Result<(Recording, Tensor)> {
        let Self { g, config, hyper, tuning, params, model, task, drop_path, update, .. } = self;
        let (mut recording, loss) = hyper.recorder(g).record(|r| {
            let loss = task.loss(r, model, drop_path, update.state())?;
            update.launch(r, &loss, params, |entry| group::<T>(config, hyper, tuning, entry))
        })?;
        recording.drop_unread();
        join(&mut recording)?;
        Ok((recording, loss))
    }

    /// The launches of a micro-batch with those of the update that follows the last one, and the tensor of the loss.
    pub fn record_whole(&mut self) -> Result<(Recording, Tensor)> {
        let (recording, loss) = self.record()?;
        Ok((recording.then(self.update.record(&self.params, &nothing)?), loss))
    }

    /// The memory plan of a step.
    pub fn plan(&mut self) -> Result<Plan> {
        let (recording, kept) = self.record_whole()?;
        let plan = Plan::new(&recording)?;
        drop(kept);
        Ok(plan)
    }

    /// Builds the program of a step.
    pub fn prepare(&mut self) -> Result<()> {
        if self.program.is_none() {
            let (g, hyper) = (self.g.clone(), self.hyper);
            let mut others = self.update.leave();
            let recorded = tuned(&g, &hyper, &mut others, || self.record());
            self.update.join(others);
            let (mut recording, loss) = recorded?;
            let cuts = self.update.cut(&mut recording)?;
            self.program = Some(Step { program: Program::new(recording)?, cuts, loss });
            self.update.prepare(&self.params, &nothing)?;
        }
        Ok(())
    }

    /// Submits step number `step`, counted from 0, on the samples of all micro-batches that this process computes.
    /// Returns the tensor that will hold the loss.
    pub fn step(&mut self, batch: T::Batch<'_>, step: u64, lr: f64) -> Result<&Tensor> {
        let run = |Step { program, cuts, .. }: &Step, update: &mut Update, part, between: &mut Between<'_>| {
            update.run(program, cuts, between)?;
            update.add(part).map(|()| None::<()>)
        };
        self.each_part(batch, step, lr, run)?;
        self.update.finish()?;
        self.program.as_ref().map(|step| &step.loss).ok_or_else(|| Error::Internal("no program was built".into()))
    }

    /// Repeats a step whose loss was not finite, inspecting every tensor, and names the first that is not finite.
    #[cfg(feature = "files")]
    pub fn find_not_finite(&mut self, batch: T::Batch<'_>, step: u64) -> Result<Option<String>> {
        if let Some((name, value)) = pollster::block_on(self.params.find_not_finite(&self.g))? {
            return Ok(Some(format!("the parameter `{name}` holds {value}")));
        }
        let run = |step: &Step, _: &mut Update, _, between: &mut Between<'_>| step.program.find_not_finite(between);
        Ok(self.each_part(batch, step, 0.0, run)?.map(|found| found.to_string()))
    }

    /// Uploads each micro-batch and passes its program to `run`, until that returns something.
    fn each_part<R>(
        &mut self, batch: T::Batch<'_>, step: u64, lr: f64,
        run: impl Fn(&Step, &mut Update, usize, &mut Between<'_>) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        self.prepare()?;
        let none = || Error::Internal("no program was built".into());
        let recorded = self.program.as_ref().ok_or_else(none)?;
        let parts = self.update.parts();
        for part in 0..parts {
            self.task.write(&self.g, batch, (part, parts))?;
            let moment = Moment { seed: self.hyper.seed, step, part: self.update.begin(step, part, lr)? };
            let mut between = |done: u32| self.task.between(&self.g, batch, (part, parts), moment, done);
            if let Some(found) = run(recorded, &mut self.update, part, &mut between)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// What the host does once a part of a recording is submitted.
type Between<'a> = dyn FnMut(u32) -> Result<()> + 'a;

/// Parameter group of a parameter: its rate by its layer, its decay by the rule.
fn group<T: Supervised>(config: &Config, hyper: &Hyper, tuning: &Tuning, entry: &Entry) -> Group {
    let depth = if tuning.by_name { T::depth_by_name } else { T::depth };
    let lr_scale = tuning.layer_decay.powi(depth(config, &entry.name) as i32);
    Group { lr_scale, weight_decay: hyper.decay_of(entry) }
}

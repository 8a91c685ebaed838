//! One fine-tuning step: images and soft targets go in, the weights move, the loss comes out. It is recorded once and
//! replayed.

use super::inputs::FinetuneInputs;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Plan, Program, Recording};
use crate::models::{Classifier, Config, layer_of};
use crate::nn::{Entry, Params};
use crate::ops::parts::join;
use crate::ops::{cross_entropy, reduce};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;
use crate::train::cuts::Cuts;
use crate::train::drop_path::DropPath;
use crate::train::exchange::Exchange;
use crate::train::loss_scaler::LossScaler;
use crate::train::optimizer::Group;
use crate::train::update::{Hyper, Update, nothing, tuned};

/// Numbers of a step that only fine-tuning has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    /// Factor on the learning rate from each layer to the one before it, BEiT's layer-wise decay; 1 for one rate
    /// everywhere.
    pub layer_decay: f64,
    /// Momentum of the moving average of the weights; `None` keeps no average.
    pub average: Option<f64>,
}

/// A classifier being trained: weights, their average, optimizer, and the recorded step.
#[derive(Debug)]
pub struct Finetuner {
    g: Gpu,
    config: Config,
    hyper: Hyper,
    tuning: Tuning,
    /// The weights.
    pub params: Params,
    model: Classifier,
    average: Option<(Params, Classifier)>,
    inputs: FinetuneInputs,
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

impl Finetuner {
    /// A model with weights drawn from `seed`, for micro-batches of `batch` images. A device that only plans draws
    /// nothing.
    ///
    /// # Errors
    /// A configuration without classes, numbers out of range.
    pub fn new(g: &Gpu, config: &Config, batch: usize, hyper: Hyper, tuning: Tuning, seed: u64) -> Result<Self> {
        if config.classes == 0 {
            return Err(Error::argument("classes", 0, "at least 1"));
        }
        let mut params = Params::new(g);
        let model = Classifier::new(g, &mut params, config)?;
        let mut update = Update::new(g, &params, hyper)?;
        let average = match tuning.average {
            Some(m) => {
                let mut average = Params::new(g);
                let model = Classifier::new(g, &mut average, config)?;
                update.follow(&average, m)?;
                Some((average, model))
            }
            None => None,
        };
        let tuner = Self {
            inputs: FinetuneInputs::new(config, batch)?,
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
            tuner.params.init(g, seed)?;
            tuner.start_average()?;
        }
        Ok(tuner)
    }

    /// The model.
    pub fn model(&self) -> &Classifier {
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

    /// The moving average of the weights, and a model that reads it.
    pub fn average(&self) -> Option<&(Params, Classifier)> {
        self.average.as_ref()
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
        let Self { g, config, hyper, tuning, params, model, inputs, drop_path, update, .. } = self;
        let (mut recording, loss) = hyper.recorder(g).record(|r| {
            let patches = Var::constant(inputs.patches(r, config)?); // (B, L, P·P·3)
            let drop_path = drop_path.draw(r, update.state(), patches.data.shape()[0])?;
            let logits = model.forward(r, &patches, drop_path.as_ref())?.logits; // (B, K)
            let loss = r.scope("loss", |r| {
                let rows = cross_entropy::cross_entropy(r, &logits, &inputs.targets)?; // (B)
                reduce::sum(r, &rows) // [1]
            })?;
            update.launch(r, &loss, params, |entry| group(config, hyper, tuning, entry))
        })?;
        recording.drop_unread();
        join(&mut recording)?;
        Ok((recording, loss))
    }

    /// The memory plan of a step.
    pub fn plan(&mut self) -> Result<Plan> {
        let (recording, kept) = self.record()?;
        let plan = Plan::new(&recording.then(self.update.record(&self.params, &nothing)?))?;
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

    /// Submits step number `step`, counted from 0, on images (B, S, S, 3) and targets (B, K), where B counts all images
    /// of the micro-batches that this process computes. Returns the tensor that will hold the loss.
    pub fn step(&mut self, images: &[u8], targets: &[f32], step: u64, lr: f64) -> Result<&Tensor> {
        let run = |Step { program, cuts, .. }: &Step, update: &mut Update, part| {
            update.run(program, cuts)?;
            update.add(part).map(|()| None::<()>)
        };
        self.each_part(images, targets, step, lr, run)?;
        self.update.finish()?;
        self.program.as_ref().map(|step| &step.loss).ok_or_else(|| Error::Internal("no program was built".into()))
    }

    /// Repeats a step whose loss was not finite, inspecting every tensor, and names the first that is not finite.
    #[cfg(feature = "files")]
    pub fn find_not_finite(&mut self, images: &[u8], targets: &[f32], step: u64) -> Result<Option<String>> {
        if let Some((name, value)) = pollster::block_on(self.params.find_not_finite(&self.g))? {
            return Ok(Some(format!("the parameter `{name}` holds {value}")));
        }
        let found = self.each_part(images, targets, step, 0.0, |step, _, _| step.program.find_not_finite())?;
        Ok(found.map(|found| found.to_string()))
    }

    /// Uploads each micro-batch and passes its program to `run`, until that returns something.
    fn each_part<T>(
        &mut self, images: &[u8], targets: &[f32], step: u64, lr: f64,
        run: impl Fn(&Step, &mut Update, usize) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        self.prepare()?;
        let none = || Error::Internal("no program was built".into());
        let recorded = self.program.as_ref().ok_or_else(none)?;
        let parts = self.update.parts();
        self.inputs.expect(targets, parts)?;
        for part in 0..parts {
            self.inputs.write(&self.g, images, targets, (part, parts))?;
            self.update.begin(step, part, lr)?;
            if let Some(found) = run(recorded, &mut self.update, part)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Parameter group of a parameter: its rate by its layer, its decay by the rule.
fn group(config: &Config, hyper: &Hyper, tuning: &Tuning, entry: &Entry) -> Group {
    let (layer, last) = layer_of(config, &entry.name);
    let lr_scale = tuning.layer_decay.powi((last - layer) as i32);
    Group { lr_scale, weight_decay: hyper.decay_of(entry) }
}

//! The part of a training step that follows the loss: `loss.backward()`, gradient accumulation over micro-batches,
//! `optimizer.step()`, and the moving average of the weights (timm's `ModelEma`).

use super::loss_scaler::LossScaler;
use super::optimizer::{DecayRule, Group, Optimizer};
use crate::error::{Error, Result};
use crate::gpu::{Class, Gpu, Phase, Precision, Program, Recording};
use crate::nn::{Entry, Params};
use crate::ops::adamw::AdamwConfig;
use crate::ops::ema::{ema, momentum};
use crate::ops::loss_scale;
#[cfg(feature = "files")]
use crate::ops::matmul::tune;
use crate::ops::step::StepState;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Numbers of the optimizer and of the backward pass that stay the same for a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hyper {
    /// Betas and epsilon.
    pub adamw: AdamwConfig,
    /// Largest global gradient norm; `None` does not clip.
    pub clip: Option<f64>,
    /// Weight decay, decoupled from the gradient as in AdamW.
    pub weight_decay: f64,
    /// Which weights decay.
    pub decay_rule: DecayRule,
    /// Micro-batches whose gradients make one step.
    pub accum_iter: usize,
    /// Seed of DropPath's draws.
    pub seed: u64,
    /// Whether each block is computed again in the backward pass, so that only its input is kept:
    /// `torch.utils.checkpoint`.
    pub checkpoint_blocks: bool,
    /// Precision of matrix products, forward and backward. With f16 operands the loss is scaled.
    pub precision: Precision,
}

impl Hyper {
    /// Weight decay of one parameter: 0 where the rule exempts it.
    pub fn decay_of(&self, entry: &Entry) -> f64 {
        if self.decay_rule.decays(entry) { self.weight_decay } else { 0.0 }
    }

    /// A recorder for a step with these numbers.
    pub fn recorder(&self, g: &Gpu) -> Recorder {
        Recorder::new(g).checkpointing(self.checkpoint_blocks).in_precision(self.precision)
    }
}

/// Records a step with the fastest variant of each matrix product. Products of a shape that was never timed on this
/// device are timed first, so the step is recorded a second time.
pub fn tuned<T>(g: &Gpu, hyper: &Hyper, mut record: impl FnMut() -> Result<(Recording, T)>) -> Result<(Recording, T)> {
    let recorded = record()?;
    #[cfg(feature = "files")]
    if tune(g, recorded.0.launches(), hyper.precision)? > 0 {
        drop(recorded);
        return record();
    }
    #[cfg(not(feature = "files"))]
    let _ = (g, hyper);
    Ok(recorded)
}

/// Buffers for a step of several micro-batches: the sums of gradients and loss, and the program that updates the
/// weights from them.
#[derive(Debug)]
struct Sums {
    /// Sum of the gradients, one flat tensor per arena.
    gradients: Vec<Tensor>,
    loss: Tensor,
    /// `ema` factors (old, new) of the gradient sums: (0, 1) on the first micro-batch overwrites, (1, 1) on later ones
    /// adds.
    keep: Tensor,
    /// `ema` factors of the loss, with new = 1 / accum_iter: the loss of a step is the mean over its micro-batches.
    share: Tensor,
    program: Option<Program>,
}

/// A moving average of the model: its weights and buffers as flat tensors, and the factors of [`ema`].
#[derive(Debug)]
struct Average {
    tensors: Vec<Tensor>,
    factors: Tensor,
}

/// Everything of a training step that comes after the loss.
///
/// With one micro-batch per step, gradients and update are launched in the same recording as the forward pass. With
/// several, that recording only adds to sums, and [`Update::finish`] runs a second program that updates the weights
/// from the sums: the result is that of one large batch.
#[derive(Debug)]
pub struct Update {
    g: Gpu,
    hyper: Hyper,
    state: Tensor,
    optimizer: Option<Optimizer>,
    sums: Option<Sums>,
    averages: Vec<Average>,
    scaler: Option<LossScaler>,
}

impl Update {
    /// An update for `params`, to which no tensor may be added afterwards.
    pub fn new(g: &Gpu, params: &Params, hyper: Hyper) -> Result<Self> {
        if hyper.accum_iter == 0 {
            return Err(Error::argument("accum_iter", 0, "at least 1"));
        }
        let like = |t: &Tensor| Tensor::new(Class::Gradient, "sums of gradients", t.shape());
        let sums = (hyper.accum_iter > 1).then(|| Sums {
            gradients: params.flat().iter().map(|f| like(&f.gradients)).collect(),
            loss: Tensor::new(Class::Input, "loss", &[1]),
            keep: Tensor::input("factors", &[2]),
            share: Tensor::input("factors", &[2]),
            program: None,
        });
        let scaler = LossScaler::of(g, hyper.precision)?;
        Ok(Self {
            g: g.clone(),
            hyper,
            state: StepState::tensor(),
            optimizer: None,
            sums,
            averages: Vec::new(),
            scaler,
        })
    }

    /// Lets weights and buffers of `average`, a model of the same layout, follow those of the model: m·average +
    /// (1 − m)·model after each step.
    pub fn follow(&mut self, average: &Params, m: f64) -> Result<()> {
        let tensors = average.flat_tensors();
        self.averages.push(Average { tensors, factors: Tensor::from_slice(&self.g, &[2], &momentum(m))? });
        Ok(())
    }

    /// The [`StepState`] on the GPU: the step's number, learning rate and seed. Kernels that draw random numbers read
    /// it, so that a replayed program draws anew in each step.
    pub fn state(&self) -> &Tensor {
        &self.state
    }

    /// The loss scaler; `None` in f32, where nothing is scaled.
    pub fn scaler(&self) -> Option<&LossScaler> {
        self.scaler.as_ref()
    }

    /// Micro-batches of a step.
    pub fn parts(&self) -> usize {
        self.hyper.accum_iter
    }

    /// Launches the backward pass of `loss` (1), the mean over a micro-batch, and then the update of the weights, or
    /// with several micro-batches the addition to the sums. Returns the tensor that will hold the loss of the whole
    /// step.
    pub fn launch(
        &mut self, r: &mut Recorder, loss: &Var, params: &Params, group: impl Fn(&Entry) -> Group,
    ) -> Result<Tensor> {
        let Self { g, hyper, state, optimizer, sums, scaler, .. } = self;
        let dloss = Tensor::scratch("dloss", loss.data.shape());
        let share = 1.0 / hyper.accum_iter as f32;
        r.phase(Phase::Backward, |r| match scaler {
            Some(scaler) => loss_scale::seed(r, scaler.state(), share, &dloss),
            None => dloss.fill(r, share),
        })?;
        let grads = r.backward_from(loss, dloss, params.grads())?;
        let optimizer = match optimizer {
            Some(optimizer) => optimizer,
            none => none.insert(Optimizer::new(g, params, &grads, hyper.adamw, hyper.clip, state.clone(), group)?),
        };
        optimizer.guard(r, &loss.data)?;
        let Some(sums) = sums else {
            self.weights(r, params)?;
            return Ok(loss.data.clone());
        };
        r.phase(Phase::Update, |r| {
            for (sum, f) in sums.gradients.iter().zip(params.flat()) {
                ema(r, sum, &f.gradients, &sums.keep)?;
            }
            ema(r, &sums.loss, &loss.data, &sums.share)?;
            Ok(sums.loss.clone())
        })
    }

    /// Launches AdamW, and then the moving average of the new weights.
    fn weights(&self, r: &mut Recorder, params: &Params) -> Result<()> {
        let Some(optimizer) = &self.optimizer else { return Ok(()) };
        let scaling = self.scaler.as_ref().map(LossScaler::state);
        match &self.sums {
            Some(sums) => optimizer.launch(r, params, &sums.gradients, scaling)?,
            None => optimizer.launch(r, params, &params.flat_gradients(), scaling)?,
        };
        let average = |r: &mut Recorder| {
            for average in &self.averages {
                for (to, from) in average.tensors.iter().zip(params.flat_tensors()) {
                    ema(r, to, &from, &average.factors)?;
                }
            }
            Ok(())
        };
        r.phase(Phase::Update, |r| r.scope("ema", average))
    }

    /// Records the second program, which updates the weights from the sums; `None` with one micro-batch. Call
    /// [`Update::launch`] before.
    pub fn record(&self, params: &Params) -> Result<Option<Recording>> {
        if self.sums.is_none() {
            return Ok(None);
        }
        let mut r = Recorder::inference(&self.g);
        self.weights(&mut r, params)?;
        Ok(Some(r.finish()))
    }

    /// Builds the second program if there is one and it was not built before. Call [`Update::launch`] before.
    pub fn prepare(&mut self, params: &Params) -> Result<()> {
        if self.sums.as_ref().is_none_or(|sums| sums.program.is_some()) {
            return Ok(());
        }
        let program = self.record(params)?.map(Program::new).transpose()?;
        if let Some(sums) = &mut self.sums {
            sums.program = program;
        }
        Ok(())
    }

    /// Uploads step number, learning rate and `ema` factors for micro-batch `part` of step `step`, both counted from 0.
    pub fn begin(&self, step: u64, part: usize, lr: f64) -> Result<()> {
        let numbers = StepState::new(step as u32 + 1, lr as f32, self.hyper.adamw.betas, self.hyper.seed);
        StepState { part: part as u32, ..numbers }.write(&self.g, &self.state)?;
        let keep = if part == 0 { 0.0 } else { 1.0 };
        if let Some(sums) = &self.sums {
            sums.keep.write(&self.g, &[keep, 1.0f32])?;
            sums.share.write(&self.g, &[keep, 1.0 / self.hyper.accum_iter as f32])?;
        }
        Ok(())
    }

    /// Runs the second program, if there is one. Call it after the last micro-batch.
    pub fn finish(&self) -> Result<()> {
        self.sums.as_ref().and_then(|sums| sums.program.as_ref()).map_or(Ok(()), Program::run)
    }
}

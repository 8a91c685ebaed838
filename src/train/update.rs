//! What follows the loss in a training step: gradients, their sum over micro-batches, the update of the weights, and the
//! moving average of the weights.

use super::loss_scaler::LossScaler;
use super::optimizer::{AdamWConfig, DecayRule, Group, Optimizer};
use crate::error::{Error, Result};
use crate::gpu::{Class, Gpu, Phase, Precision, Program, Recording};
use crate::nn::{Entry, Params};
use crate::ops::ema::{ema, momentum};
use crate::ops::loss_scale;
#[cfg(feature = "files")]
use crate::ops::matmul::tune;
use crate::ops::step::StepState;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// What the optimizer does with a model, and how it gets its gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hyper {
    /// Betas, epsilon, clipping.
    pub adamw: AdamWConfig,
    /// Weight decay.
    pub weight_decay: f64,
    /// Of which weights.
    pub decay_rule: DecayRule,
    /// Micro-batches of a step.
    pub accum_iter: usize,
    /// Seed of DropPath.
    pub seed: u64,
    /// Whether each block is computed again in the backward pass, so that only what enters it is kept.
    pub checkpoint_blocks: bool,
    /// Of products, forward and backward; other than f32 the loss is scaled.
    pub precision: Precision,
}

impl Hyper {
    /// The weight decay of a parameter.
    pub fn decay_of(&self, entry: &Entry) -> f64 {
        if self.decay_rule.decays(entry) { self.weight_decay } else { 0.0 }
    }
}

/// What `record` launches, with the products as they were found fastest: those that were never measured are, once.
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

/// Sums over the micro-batches of a step, and the program that takes the step.
#[derive(Debug)]
struct Sums {
    /// One for each arena.
    gradients: Vec<Tensor>,
    loss: Tensor,
    /// Factors of the gradients' sums: 0 for the first micro-batch, then 1; and 1.
    keep: Tensor,
    /// Those of the loss: it is a mean, of which each micro-batch has its share.
    share: Tensor,
    program: Option<Program>,
}

/// The moving average of the weights: one flat tensor for each arena, and the factors of [`ema`].
#[derive(Debug)]
struct Average {
    weights: Vec<Tensor>,
    factors: Tensor,
}

/// The part of a training step that comes after the loss.
///
/// With one micro-batch a step everything is in the recording that [`Update::launch`] is called in. With more, that
/// recording adds to sums, and [`Update::finish`] runs a second program that reads them: as if all had been one batch.
#[derive(Debug)]
pub struct Update {
    g: Gpu,
    hyper: Hyper,
    state: Tensor,
    optimizer: Option<Optimizer>,
    sums: Option<Sums>,
    average: Option<Average>,
    scaler: Option<LossScaler>,
}

impl Update {
    /// For `params`, which have all their tensors.
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
        Ok(Self { g: g.clone(), hyper, state: StepState::tensor(), optimizer: None, sums, average: None, scaler })
    }

    /// Lets the weights of `average`, a model of the same layout, follow those of the model: m·average + (1 − m)·weights
    /// after each step.
    pub fn follow(&mut self, average: &Params, m: f64) -> Result<()> {
        let weights = average.flat().into_iter().map(|f| f.weights).collect();
        self.average = Some(Average { weights, factors: Tensor::from_slice(&self.g, &[2], &momentum(m))? });
        Ok(())
    }

    /// What changes from step to step, for launches that draw random numbers.
    pub fn state(&self) -> &Tensor {
        &self.state
    }

    /// What scales the loss, if anything does.
    pub fn scaler(&self) -> Option<&LossScaler> {
        self.scaler.as_ref()
    }

    /// Micro-batches of a step.
    pub fn parts(&self) -> usize {
        self.hyper.accum_iter
    }

    /// Launches everything from `loss` (1), which is a mean over the micro-batch, to the weights or to the sums. Returns
    /// where the loss of the whole step will be.
    pub fn launch(&mut self, t: Tape, loss: &Var, params: &Params, group: impl Fn(&Entry) -> Group) -> Result<Tensor> {
        let Self { g, hyper, state, optimizer, sums, scaler, .. } = self;
        let dloss = Tensor::scratch("dloss", loss.data.shape());
        {
            let _phase = g.phase(Phase::Backward);
            let share = 1.0 / hyper.accum_iter as f32;
            match scaler {
                Some(scaler) => loss_scale::seed(g, scaler.state(), share, &dloss)?,
                None => dloss.fill(g, share)?,
            }
        }
        let grads = t.backward_from(g, loss, dloss, params.grads())?;
        let optimizer = match optimizer {
            Some(optimizer) => optimizer,
            none => none.insert(Optimizer::new(g, params, &grads, hyper.adamw, state.clone(), group)?),
        };
        optimizer.guard(g, &loss.data)?;
        let Some(sums) = sums else {
            self.weights(params)?;
            return Ok(loss.data.clone());
        };
        let _phase = g.phase(Phase::Update);
        for (sum, f) in sums.gradients.iter().zip(params.flat()) {
            ema(g, sum, &f.gradients, &sums.keep)?;
        }
        ema(g, &sums.loss, &loss.data, &sums.share)?;
        Ok(sums.loss.clone())
    }

    /// Launches the update of the weights and of their average.
    fn weights(&self, params: &Params) -> Result<()> {
        let g = &self.g;
        let Some(optimizer) = &self.optimizer else { return Ok(()) };
        let scaling = self.scaler.as_ref().map(LossScaler::state);
        match &self.sums {
            Some(sums) => optimizer.launch(g, params, &sums.gradients, scaling)?,
            None => optimizer.launch(g, params, &params.flat_gradients(), scaling)?,
        };
        let _phase = g.phase(Phase::Update);
        let _scope = g.scope("ema");
        if let Some(average) = &self.average {
            for (to, f) in average.weights.iter().zip(params.flat()) {
                ema(g, to, &f.weights, &average.factors)?;
            }
        }
        Ok(())
    }

    /// The second program's launches, if there is one; after [`Update::launch`].
    pub fn record(&self, params: &Params) -> Result<Option<Recording>> {
        if self.sums.is_none() {
            return Ok(None);
        }
        Ok(Some(self.g.record(|| self.weights(params))?.0))
    }

    /// Builds the second program, if there is one and it is not there yet; after [`Update::launch`].
    pub fn prepare(&mut self, params: &Params) -> Result<()> {
        if self.sums.as_ref().is_none_or(|sums| sums.program.is_some()) {
            return Ok(());
        }
        let program = self.record(params)?.map(|recording| Program::new(&self.g, recording)).transpose()?;
        if let Some(sums) = &mut self.sums {
            sums.program = program;
        }
        Ok(())
    }

    /// Uploads the numbers of micro-batch `part` of step `step`, both counted from 0.
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

    /// Runs the second program, if there is one, after the last micro-batch.
    pub fn finish(&self) -> Result<()> {
        self.sums.as_ref().and_then(|sums| sums.program.as_ref()).map_or(Ok(()), Program::run)
    }
}

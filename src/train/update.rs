//! The part of a training step that follows the loss: `loss.backward()`, gradient accumulation over micro-batches,
//! `optimizer.step()`, and the moving average of the weights (timm's `ModelEma`).

use super::collected::Collected;
use super::cuts::{Cuts, segments};
use super::exchange::{Exchange, expect_shared};
use super::loss_scaler::LossScaler;
use super::optimizer::{DecayRule, Group, Optimizer};
use super::statistics::Statistics;
use super::sums::Sums;
use crate::data::Place;
use crate::error::{Error, Result};
use crate::gpu::{Class, Gpu, Phase, Precision, Program, Readback, Recording};
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
    /// Micro-batches whose gradients make one step, over all processes.
    pub accum_iter: usize,
    /// Which of them this process computes.
    pub place: Place,
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
        let recorder = Recorder::new(g).checkpointing(self.checkpoint_blocks).in_precision(self.precision);
        recorder.observing(self.accum_iter > 1)
    }
}

/// Records a step with the fastest variant of each matrix product. Products of a shape that was never timed on this
/// device are timed first, so the step is recorded a second time.
///
/// Several processes time nothing each for themselves: they would choose apart, and compute other bits. Rank 0 chooses
/// for all.
pub fn tuned<T>(
    g: &Gpu, hyper: &Hyper, exchange: &mut Option<Box<dyn Exchange>>,
    mut record: impl FnMut() -> Result<(Recording, T)>,
) -> Result<(Recording, T)> {
    let recorded = record()?;
    let leads = hyper.place.rank == 0;
    #[cfg(feature = "files")]
    let measured = leads && tune(g, recorded.0.launches(), hyper.precision)? > 0;
    #[cfg(not(feature = "files"))]
    let measured = false;
    let told = exchange.as_mut().map_or(Ok(false), |exchange| told(g, leads, &mut **exchange))?;
    if measured || told {
        drop(recorded);
        return record();
    }
    Ok(recorded)
}

/// Makes the variants that rank 0 has chosen those of every process. Returns whether they may have changed here.
fn told(g: &Gpu, leads: bool, exchange: &mut dyn Exchange) -> Result<bool> {
    let broken = |e: serde_json::Error| Error::Internal(format!("the choices of rank 0: {e}"));
    let mine = if leads { serde_json::to_vec(&g.choices()).map_err(broken)? } else { Vec::new() };
    let all = exchange.gather(&[mine])?;
    if leads {
        return Ok(false);
    }
    let first = all.first().and_then(|first| first.first());
    let choices: std::collections::BTreeMap<String, u32> =
        serde_json::from_slice(first.map_or(&[][..], Vec::as_slice)).map_err(broken)?;
    let new = g.choices() != choices && !choices.is_empty();
    if new {
        g.choose(choices)?;
    }
    Ok(new)
}

/// What a step of several micro-batches has besides: sums, and the programs that run after a micro-batch and after all.
#[derive(Debug)]
struct Several {
    /// Over the gradients, one flat tensor per arena, and the loss behind them.
    sums: Sums,
    /// Where a micro-batch leaves its part of the loss.
    loss: Tensor,
    /// `ema` factors 0 and 1 / accum_iter: the loss of a step is the mean over its micro-batches.
    share: Tensor,
    statistics: Statistics,
    collected: Option<Collected>,
    /// Whether the exchange of the gradients has begun during the backward pass.
    begun: bool,
    update: Option<Program>,
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
/// several, [`Update::add`] adds up what that recording leaves, and [`Update::finish`] runs a second program that
/// updates the weights from the sums: the result is that of one large batch. Where several processes share the
/// micro-batches, `finish` lets them exchange the sums first.
#[derive(Debug)]
pub struct Update {
    g: Gpu,
    hyper: Hyper,
    state: Tensor,
    optimizer: Option<Optimizer>,
    several: Option<Several>,
    averages: Vec<Average>,
    scaler: Option<LossScaler>,
    exchange: Option<Box<dyn Exchange>>,
}

impl Update {
    /// An update for `params`, to which no tensor may be added afterwards.
    ///
    /// # Errors
    /// No micro-batch, or a number of them that the processes cannot share evenly.
    pub fn new(g: &Gpu, params: &Params, hyper: Hyper) -> Result<Self> {
        if hyper.accum_iter == 0 {
            return Err(Error::argument("accum_iter", 0, "at least 1"));
        }
        expect_shared(hyper.place, hyper.accum_iter)?;
        let several = match hyper.accum_iter {
            1 => None,
            parts => {
                let loss = Tensor::new(Class::Input, "loss", &[1]);
                let summands = params.flat_gradients().into_iter().chain([loss.clone()]).collect();
                Some(Several {
                    sums: Sums::new(g, hyper.place.of(parts), summands),
                    loss,
                    share: Tensor::from_slice(g, &[2], &[0.0, 1.0 / parts as f32])?,
                    statistics: Statistics::new(g, params)?,
                    collected: None,
                    begun: false,
                    update: None,
                })
            }
        };
        let scaler = LossScaler::of(g, hyper.precision)?;
        Ok(Self {
            g: g.clone(),
            hyper,
            state: StepState::tensor(),
            optimizer: None,
            several,
            averages: Vec::new(),
            scaler,
            exchange: None,
        })
    }

    /// Lets this process share the micro-batches of each step with others.
    pub fn join(&mut self, exchange: Option<Box<dyn Exchange>>) {
        self.exchange = exchange;
    }

    /// Takes the exchange out for the time of a recording; [`Update::join`] puts it back.
    pub fn leave(&mut self) -> Option<Box<dyn Exchange>> {
        self.exchange.take()
    }

    /// Lets weights and buffers of `average`, a model of the same layout, follow those of the model: m·average +
    /// (1 − m)·model after each step.
    pub fn follow(&mut self, average: &Params, m: f64) -> Result<()> {
        let tensors = average.flat_tensors();
        self.averages.push(Average { tensors, factors: Tensor::from_slice(&self.g, &[2], &momentum(m))? });
        Ok(())
    }

    /// Counts in the batch norms of `other`, a model that runs in each micro-batch beside the one that is trained.
    pub fn runs_beside(&mut self, other: &Params) -> Result<()> {
        let Some(several) = &mut self.several else { return Ok(()) };
        several.statistics.also(&self.g, other)
    }

    /// Collects `rows` of every micro-batch, for the update to read: those of all micro-batches one after the other.
    pub fn collect(&mut self, rows: &Tensor) -> Result<()> {
        let Some(several) = &mut self.several else { return Ok(()) };
        several.collected = Some(Collected::new(&self.g, rows, self.hyper.place, self.hyper.accum_iter)?);
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

    /// Micro-batches of a step that this process computes.
    pub fn parts(&self) -> usize {
        self.hyper.place.of(self.hyper.accum_iter)
    }

    /// Whether a step has one micro-batch, whose recording also updates the weights.
    pub fn at_once(&self) -> bool {
        self.several.is_none()
    }

    /// Launches the backward pass of `loss` (1), the mean over a micro-batch, and then the update of the weights, or
    /// with several micro-batches what is to be added up. Returns the tensor that will hold the loss of the whole step.
    pub fn launch(
        &mut self, r: &mut Recorder, loss: &Var, params: &Params, group: impl Fn(&Entry) -> Group,
    ) -> Result<Tensor> {
        let Self { g, hyper, state, optimizer, several, scaler, .. } = self;
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
        let Some(several) = several else {
            optimizer.guard(r, &loss.data)?;
            self.weights(r, params)?;
            return Ok(loss.data.clone());
        };
        r.phase(Phase::Update, |r| ema(r, &several.loss, &loss.data, &several.share))?;
        several.sums.totals().last().cloned().ok_or_else(|| Error::Internal("a step without a loss".into()))
    }

    /// Launches AdamW, and then the moving average of the new weights.
    fn weights(&self, r: &mut Recorder, params: &Params) -> Result<()> {
        let Some(optimizer) = &self.optimizer else { return Ok(()) };
        let scaling = self.scaler.as_ref().map(LossScaler::state);
        match self.several.as_ref().and_then(|several| several.sums.totals().split_last()) {
            Some((loss, gradients)) => {
                optimizer.guard(r, loss)?;
                optimizer.launch(r, params, gradients, scaling)?
            }
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

    /// Records what runs after the micro-batches, one program behind the other, for the memory plan; `None` with one
    /// micro-batch. `last` launches what follows the update. Call [`Update::launch`] before.
    pub fn record(&self, params: &Params, last: &Last<'_>) -> Result<Option<Recording>> {
        let Some(several) = &self.several else { return Ok(None) };
        let update = self.record_update(params, last)?;
        Ok(Some(match several.sums.recordings()? {
            Some(sums) => sums.then(Some(update)),
            None => update,
        }))
    }

    fn record_update(&self, params: &Params, last: &Last<'_>) -> Result<Recording> {
        let mut r = Recorder::inference(&self.g);
        self.weights(&mut r, params)?;
        let collected = self.several.as_ref().and_then(|several| several.collected.as_ref());
        r.phase(Phase::Update, |r| last(r, collected.map(Collected::all)))?;
        Ok(r.finish())
    }

    /// Builds the programs that run after the micro-batches, if there are any and they were not built before. `last`
    /// launches what follows the update; it gets what was collected. Call [`Update::launch`] before.
    pub fn prepare(&mut self, params: &Params, last: &Last<'_>) -> Result<()> {
        if self.several.as_ref().is_none_or(|several| several.update.is_some()) {
            return Ok(());
        }
        let update = Program::new(self.record_update(params, last)?)?;
        if let Some(several) = &mut self.several {
            several.update = Some(update);
            several.sums.prepare()?;
        }
        Ok(())
    }

    /// Uploads step number and learning rate for micro-batch `part` of step `step`, both counted from 0. `part` counts
    /// the micro-batches of this process. Returns its number among those of all processes.
    pub fn begin(&self, step: u64, part: usize, lr: f64) -> Result<usize> {
        let part = self.hyper.place.rank * self.parts() + part;
        let numbers = StepState::new(step as u32 + 1, lr as f32, self.hyper.adamw.betas, self.hyper.seed);
        StepState { part: part as u32, ..numbers }.write(&self.g, &self.state)?;
        Ok(part)
    }

    /// Marks the places of a recorded micro-batch after which gradients can travel. Only where it is the one
    /// micro-batch of this process: the gradients of several are not final before the last of them has ended.
    ///
    /// # Errors
    /// Processes that would send in another order.
    pub fn cut(&mut self, recording: &mut Recording) -> Result<Cuts> {
        let parts = self.parts();
        let (Some(several), Some(exchange)) = (&self.several, &mut self.exchange) else { return Ok(Cuts::default()) };
        let Some((_, gradients)) = several.sums.totals().split_last().filter(|_| parts == 1) else {
            return Ok(Cuts::default());
        };
        let cuts = Cuts::mark(recording, gradients)?;
        let all = exchange.gather(&[cuts.order()])?;
        match all.windows(2).all(|pair| pair[0] == pair[1]) {
            true => Ok(cuts),
            false => Err(Error::Ranks("the ranks have recorded different steps".into())),
        }
    }

    /// Runs a micro-batch, and calls `between` with the number of each part of it that is submitted. At its cuts,
    /// gradients that are final begin to travel.
    pub fn run(&mut self, program: &Program, cuts: &Cuts, between: &mut dyn FnMut(u32) -> Result<()>) -> Result<()> {
        let (Some(several), Some(exchange), false) = (&mut self.several, &mut self.exchange, cuts.is_empty()) else {
            return program.run_in_parts(between);
        };
        several.begun = true;
        program.run_in_parts(|part| {
            between(part)?;
            cuts.after(part).try_for_each(|segment| exchange.begin(segment))
        })
    }

    /// Adds up what micro-batch `part` has left. Call it after each micro-batch of this process, in order.
    pub fn add(&mut self, part: usize) -> Result<()> {
        let Some(several) = &mut self.several else { return Ok(()) };
        several.sums.add(part)?;
        several.statistics.add(self.exchange.is_some())?;
        several.collected.as_ref().map_or(Ok(()), |collected| collected.add(part))
    }

    /// Exchanges the sums, if other processes have a part of them, and updates the weights. Call it after the last
    /// micro-batch.
    pub fn finish(&mut self) -> Result<()> {
        let Some(several) = &mut self.several else { return Ok(()) };
        if let Some(exchange) = &mut self.exchange {
            several.exchange(&self.g, &mut **exchange)?;
        }
        several.update.as_ref().map_or(Ok(()), Program::run)
    }
}

/// Launches what follows the update of the weights. It gets the rows collected of all micro-batches, if any were.
pub type Last<'a> = dyn Fn(&mut Recorder, Option<&Tensor>) -> Result<()> + 'a;

/// For [`Update::prepare`]: nothing follows the update.
pub fn nothing(_: &mut Recorder, _: Option<&Tensor>) -> Result<()> {
    Ok(())
}

impl Several {
    /// The sums over all processes take the place of those of this one. So do the losses, what was collected, and the
    /// statistics of the batch norms.
    fn exchange(&mut self, g: &Gpu, exchange: &mut dyn Exchange) -> Result<()> {
        let Some((loss, gradients)) = self.sums.totals().split_last() else { return Ok(()) };
        let small: Vec<&Tensor> = [loss].into_iter().chain(self.collected.as_ref().map(Collected::mine)).collect();
        let reads: Vec<Readback> = small.into_iter().map(|tensor| tensor.read(g)).collect::<Result<_>>()?;
        if !std::mem::take(&mut self.begun) {
            segments(gradients)?.iter().try_for_each(|segment| exchange.begin(segment))?;
        }
        exchange.complete()?;
        let mut mine = Vec::new();
        for read in reads.into_iter().chain(self.statistics.take()) {
            mine.push(exchange.wait(read)?);
        }
        let ranks = exchange.gather(&mine)?;
        let losses: Vec<f32> = ranks.iter().map(|all| bytemuck::pod_read_unaligned(&all[0])).collect();
        loss.write(g, &[exchange.total(&losses)])?;
        let mut used = 1;
        if let Some(collected) = &self.collected {
            let rows: Vec<u8> = ranks.iter().flat_map(|all| all[1].clone()).collect();
            g.write(collected.all().memory(), &rows)?;
            used = 2;
        }
        ranks.iter().try_for_each(|all| self.statistics.fold(g, &all[used..]))
    }
}

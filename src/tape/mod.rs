//! Automatic differentiation, like PyTorch's autograd, but every backward is written by hand.
//!
//! An operator launches its forward kernel and pushes a *rule*: a closure that launches the backward kernels, like
//! `backward` of a `torch.autograd.Function`. The rules run in reverse order of their forward launches. That order is
//! always valid, so there is no topological sort. A rule's closure owns the tensors that it needs and frees them when
//! it has run. Backward kernels overwrite their output; only [`Grads::add`] accumulates.
//!
//! The tensors that rules keep are most of the memory of a training step. A recorder with [`Recorder::checkpointing`]
//! trades memory for time (PyTorch's `torch.utils.checkpoint`): of each [`Recorder::segment`] it keeps only the inputs,
//! and launches the segment again when gradients arrive at its results.

mod var;

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::error::Result;
use crate::gpu::{Gpu, Grid, Kernel, Operand, Phase, Precision, Recording, Scalars};
use crate::tensor::Tensor;

pub use var::{Operands, Var};

/// The gradient of each variable, during the backward pass and after it.
#[derive(Debug, Default)]
pub struct Grads {
    /// Gradients accumulated so far, by variable id.
    found: HashMap<u64, Tensor>,
    /// Fixed buffers for the gradients of some variables, by id: those of parameters lie in the gradient arena that the
    /// optimizer reads.
    places: HashMap<u64, Tensor>,
    /// Gradients that the rules now running read.
    held: Vec<Tensor>,
}

impl Grads {
    /// No gradients yet. The gradient of a variable whose id is in `places` will be written to that tensor.
    pub fn with_places(places: HashMap<u64, Tensor>) -> Self {
        Self { places, ..Self::default() }
    }

    /// Whether this variable needs a gradient: false for constants.
    pub fn wants(&self, var: &Var) -> bool {
        var.id() != 0
    }

    /// A tensor for a rule to write its contribution to: the fixed buffer of the variable if it has one and this is the
    /// first contribution, else new scratch of the variable's shape and element type.
    pub fn alloc(&self, var: &Var) -> Tensor {
        match self.places.get(&var.id()) {
            Some(place) if !self.found.contains_key(&var.id()) => place.clone(),
            _ => var.data.scratch_like("gradient", var.data.shape()),
        }
    }

    /// Adds a contribution to a variable's gradient. The first one becomes the gradient without a copy, and later ones
    /// are added to it in place. But one tensor may be the contribution to several variables. While another gradient or
    /// a running rule uses the same memory, a later contribution is added into a new tensor instead.
    ///
    /// A gradient has its variable's element type, as in PyTorch. A contribution of the other float type is converted:
    /// that of a sum in f32, for a summand that is stored as f16.
    ///
    /// # Errors
    /// If the contribution does not have the variable's shape.
    pub fn add(&mut self, r: &mut Recording, var: &Var, contribution: Tensor) -> Result<()> {
        if !self.wants(var) {
            return Ok(());
        }
        contribution.expect_shape("gradient", var.data.shape())?;
        let contribution = contribution.to_dtype(r, var.data.dtype())?;
        let beside = |other: &Tensor| other.memory().same_buffer(contribution.memory());
        let sum = match (self.found.get(&var.id()), self.places.get(&var.id())) {
            (Some(sum), None) if beside(sum) || self.is_shared(var, sum) => sum.plus(r, &contribution)?,
            (Some(sum), _) => return sum.add_into(r, &contribution),
            (None, Some(place)) => {
                if !place.memory().same(contribution.memory()) {
                    place.copy_from(r, &contribution)?;
                }
                place.clone()
            }
            // the contribution lies in another variable's fixed buffer, where more may be added in place: copy it
            (None, None) if self.places.values().any(beside) => {
                let copy = Tensor::scratch("gradient", contribution.shape());
                copy.copy_from(r, &contribution)?;
                copy
            }
            (None, None) => contribution,
        };
        self.found.insert(var.id(), sum);
        Ok(())
    }

    /// Whether the gradient of another variable, or a running rule, uses the memory of `sum`.
    fn is_shared(&self, var: &Var, sum: &Tensor) -> bool {
        let others = self.found.iter().filter(|(id, _)| **id != var.id()).map(|(_, other)| other);
        self.held.iter().chain(others).any(|other| other.memory().same_buffer(sum.memory()))
    }

    /// Takes the gradient accumulated so far out of the table, so that a backward kernel can fuse the addition (`dx =
    /// dy·w + taken`). Write the sum to a *new* tensor and hand it back with [`Grads::add`]: the taken one may share
    /// its memory with another variable's gradient. Returns `None` if there is no gradient yet, or if the variable has
    /// a fixed buffer for it, as parameters do.
    pub fn take(&mut self, var: &Var) -> Option<Tensor> {
        if self.places.contains_key(&var.id()) { None } else { self.found.remove(&var.id()) }
    }

    /// Whether the variable with this id has a gradient.
    pub fn has(&self, id: u64) -> bool {
        self.found.contains_key(&id)
    }

    /// The gradient of a variable: PyTorch's `.grad`. `None` if the loss does not depend on the variable. The tensor
    /// may share its memory with the gradient of another variable, so do not write to it.
    pub fn get(&self, var: &Var) -> Option<&Tensor> {
        self.found.get(&var.id())
    }
}

type Rule = Box<dyn FnOnce(&mut Recorder, &mut Grads) -> Result<()>>;

/// A rule, and the module in which its backward launches are recorded.
struct Step {
    scope: Arc<str>,
    rule: Rule,
}

/// Collects the launches of operators and their gradient rules: a CUDA stream in capture, with autograd's state. It
/// knows the device, the current module name and the precision, so an operator needs only a recorder and its operands.
///
/// Nothing runs while it records. [`Recorder::finish`] returns the [`Recording`], from which a program is made that can
/// be replayed. [`Recorder::run`](Recording::run) runs at once what was recorded so far.
pub struct Recorder {
    recording: Recording,
    steps: Vec<Step>,
    rules: Rules,
    checkpointing: bool,
    training: bool,
    /// Whether a segment is being recorded a second time, for the backward pass.
    again: bool,
    observing: bool,
}

/// Whether [`Recorder::push`] keeps the gradient rules of operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// Keeps them.
    Kept,
    /// Drops them, but results are variables: a checkpointed segment is recorded again, with rules, when gradients
    /// arrive at its results.
    Later,
    /// Drops them, and results are constants: `torch.no_grad()`.
    None,
}

impl Deref for Recorder {
    type Target = Recording;

    fn deref(&self) -> &Recording {
        &self.recording
    }
}

impl DerefMut for Recorder {
    fn deref_mut(&mut self) -> &mut Recording {
        &mut self.recording
    }
}

impl Recorder {
    /// An empty recorder for a forward and a backward pass in training, in f32.
    pub fn new(g: &Gpu) -> Self {
        Self {
            recording: Recording::new(g),
            steps: Vec::new(),
            rules: Rules::Kept,
            checkpointing: false,
            training: true,
            again: false,
            observing: false,
        }
    }

    /// An empty recorder for a forward pass only, in evaluation and in f32. It keeps no rules: PyTorch's
    /// `torch.inference_mode()` after `model.eval()`.
    pub fn inference(g: &Gpu) -> Self {
        Self { rules: Rules::None, training: false, ..Self::new(g) }
    }

    /// Sets whether layers act as in training (`model.train(on)` in PyTorch): batch norms then take the statistics of
    /// the batch, and their running statistics follow them.
    #[must_use]
    pub fn train(self, on: bool) -> Self {
        Self { training: on, ..self }
    }

    /// Whether layers act as in training.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// Sets whether batch norms in training only note the statistics of the batch, in place of moving their running
    /// ones: those of several micro-batches are folded in later, in an order that does not depend on who computed them.
    #[must_use]
    pub fn observing(self, on: bool) -> Self {
        Self { observing: on, ..self }
    }

    /// Whether batch norms in training only note the statistics of the batch.
    pub fn observes(&self) -> bool {
        self.observing
    }

    /// Turns activation checkpointing on or off: of each [`Recorder::segment`] only the inputs are kept (Chen et al.
    /// 2016).
    #[must_use]
    pub fn checkpointing(self, on: bool) -> Self {
        Self { checkpointing: on, ..self }
    }

    /// Sets the precision of matrix products.
    #[must_use]
    pub fn in_precision(mut self, precision: Precision) -> Self {
        self.recording.set_precision(precision);
        self
    }

    /// Whether rules are kept. If not, an operator need not save tensors that only its rule reads.
    pub fn keeps_rules(&self) -> bool {
        self.rules == Rules::Kept
    }

    /// Whether a [`Recorder::segment`] is being recorded a second time, for its gradients. What an operator changes
    /// besides its results, such as running statistics, it changes the first time only.
    pub fn records_again(&self) -> bool {
        self.again
    }

    /// [`Recording::launch`].
    pub fn launch<P: Scalars, V: Operand>(
        &mut self, kernel: &'static Kernel, grid: Grid, params: &P, args: &[V],
    ) -> Result<()> {
        self.recording.launch(kernel, grid, params, args)
    }

    /// [`Recording::launch_with`].
    pub fn launch_with<P: Scalars, V: Operand>(
        &mut self, kernel: &'static Kernel, consts: &[(&str, u32)], grid: Grid, params: &P, args: &[V],
    ) -> Result<()> {
        self.recording.launch_with(kernel, consts, grid, params, args)
    }

    /// Records `body` as a module of this name. Nested names are joined by dots, as in a `state_dict`.
    pub fn scope<T>(&mut self, name: &str, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outer = self.recording.scope();
        let inner = if outer.is_empty() { name.into() } else { format!("{outer}.{name}").into() };
        self.in_scope(inner, body)
    }

    fn in_scope<T>(&mut self, scope: Arc<str>, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.recording.set_scope(scope);
        let value = body(self);
        self.recording.set_scope(before);
        value
    }

    /// Records `body` without rules, so that its results are constants: PyTorch's `with torch.no_grad():`.
    pub fn no_grad<T>(&mut self, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.with_rules(Rules::None, body)
    }

    fn with_rules<T>(&mut self, rules: Rules, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = std::mem::replace(&mut self.rules, rules);
        let value = body(self);
        self.rules = before;
        value
    }

    /// Records the launches of `body` in this phase.
    pub fn phase<T>(&mut self, phase: Phase, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.recording.set_phase(phase);
        let value = body(self);
        self.recording.set_phase(before);
        value
    }

    /// Adds an operator with one result, and returns the result as a variable. `rule` receives the operands by value
    /// and the gradient of the result. It runs only if the result gets a gradient. If all operands are constants,
    /// `rule` is dropped and the result is a constant.
    pub fn push<O: Operands>(
        &mut self, operands: O, out: Tensor,
        rule: impl FnOnce(&mut Self, O::Owned, &Tensor, &mut Grads) -> Result<()> + 'static,
    ) -> Var {
        let [out] = self.push_many(operands, [out], move |r, operands, [dout], grads| match dout {
            Some(dout) => rule(r, operands, &dout, grads),
            None => Ok(()),
        });
        out
    }

    /// [`Recorder::push`] for an operator with several results. `rule` receives one gradient per result, `None` for
    /// those that the loss does not depend on. It runs if at least one result gets a gradient.
    pub fn push_many<O: Operands, const N: usize>(
        &mut self, operands: O, outs: [Tensor; N],
        rule: impl FnOnce(&mut Self, O::Owned, [Option<Tensor>; N], &mut Grads) -> Result<()> + 'static,
    ) -> [Var; N] {
        if operands.are_constant() || self.rules == Rules::None {
            return outs.map(Var::constant);
        }
        let outs = outs.map(Var::leaf);
        if self.rules == Rules::Kept {
            let (ids, operands) = (outs.each_ref().map(Var::id), operands.to_owned());
            self.push_rule(move |r, grads| {
                let douts = ids.map(|id| grads.found.remove(&id));
                if douts.iter().all(Option::is_none) {
                    return Ok(());
                }
                let before = grads.held.len();
                grads.held.extend(douts.iter().flatten().cloned());
                let done = rule(r, operands, douts, grads);
                grads.held.truncate(before);
                done
            });
        }
        outs
    }

    fn push_rule(&mut self, rule: impl FnOnce(&mut Self, &mut Grads) -> Result<()> + 'static) {
        self.steps.push(Step { scope: self.recording.scope().clone(), rule: Box::new(rule) });
    }

    /// Records `f`, a part of the forward pass, and returns its results: `torch.utils.checkpoint.checkpoint(f)`. With
    /// [`Recorder::checkpointing`], `f` is recorded now without rules, and again with rules when the backward pass
    /// reaches it. So `f` must launch the same kernels each time. Gradients are equal bit for bit with and without
    /// checkpointing. `f` may return a variable that it captured, and this stays the same variable.
    pub fn segment<const N: usize>(&mut self, f: impl Fn(&mut Self) -> Result<[Var; N]> + 'static) -> Result<[Var; N]> {
        if !self.checkpointing || self.rules != Rules::Kept {
            return f(self);
        }
        let outs = self.with_rules(Rules::Later, &f)?;
        let ids = outs.each_ref().map(Var::id);
        self.push_rule(move |r, grads| {
            if !ids.iter().any(|id| grads.has(*id)) {
                return Ok(());
            }
            let outer = (std::mem::take(&mut r.steps), std::mem::replace(&mut r.checkpointing, false));
            r.again = true;
            let recorded = f(r);
            r.again = false;
            let done = recorded.and_then(|again| {
                for (before, now) in ids.into_iter().zip(again.map(|out| out.id())) {
                    if let Some(dout) = grads.found.remove(&before) {
                        grads.found.insert(now, dout);
                    }
                }
                r.run_rules(grads)
            });
            (r.steps, r.checkpointing) = outer;
            done
        });
        Ok(outs)
    }

    /// Runs the rules in reverse order, from a gradient of 1 for every element of `loss`: PyTorch's
    /// `loss.sum().backward()`. Gradients are added to those in `grads`. Afterwards the recorder holds no rules.
    pub fn backward(&mut self, loss: &Var, grads: Grads) -> Result<Grads> {
        let seed = Tensor::scratch("dloss", loss.data.shape());
        self.phase(Phase::Backward, |r| seed.fill(r, 1.0))?;
        self.backward_from(loss, seed, grads)
    }

    /// [`Recorder::backward`] from the gradient `dout` of `out`: PyTorch's `out.backward(dout)`.
    pub fn backward_from(&mut self, out: &Var, dout: Tensor, mut grads: Grads) -> Result<Grads> {
        self.phase(Phase::Backward, |r| {
            grads.held.push(dout.clone());
            grads.add(r, out, dout)?;
            r.run_rules(&mut grads)
        })?;
        grads.held.pop();
        Ok(grads)
    }

    fn run_rules(&mut self, grads: &mut Grads) -> Result<()> {
        let steps = std::mem::take(&mut self.steps);
        steps.into_iter().rev().try_for_each(|step| self.in_scope(step.scope, |r| (step.rule)(r, grads)))
    }

    /// Records `body` and returns the recording with what `body` returned. The returned tensors keep their values after
    /// each replay; other tensors share memory with each other.
    pub fn record<T>(mut self, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<(Recording, T)> {
        let kept = body(&mut self)?;
        Ok((self.finish(), kept))
    }

    /// The launches. Rules that were not run are dropped.
    pub fn finish(self) -> Recording {
        self.recording
    }
}

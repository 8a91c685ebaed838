//! Automatic differentiation: PyTorch's autograd, written down by hand.
//!
//! An operator launches its forward kernel and pushes a *rule*, a closure that launches the backward kernels. Running
//! the rules in reverse order of their forward launches is always valid, so there is no topological sort. What a rule
//! needs is moved into its closure and freed when it has run. Backward kernels overwrite their output; only
//! [`Grads::add`] adds.
//!
//! The tensors that rules keep are most of the memory of a training step. A recorder with [`Recorder::checkpointing`]
//! trades that memory for time (PyTorch's `torch.utils.checkpoint`): of each [`Recorder::segment`] it keeps the inputs
//! only, and launches the segment again when gradients arrive at it.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::gpu::{Gpu, Grid, Kernel, Operand, Phase, Precision, Recording, Scalars};
use crate::tensor::Tensor;

/// A tensor with an identity, under which gradients are collected: PyTorch's `requires_grad`. Operators take `&Var`
/// where they differentiate and `&Tensor` where they do not.
#[derive(Debug, Clone)]
pub struct Var {
    id: u64,
    /// The value.
    pub data: Tensor,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Var {
    /// A leaf: a parameter, or an input whose gradient is wanted.
    pub fn leaf(data: Tensor) -> Self {
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), data }
    }
    /// A value that needs no gradient. Rules skip the work for it.
    pub fn constant(data: Tensor) -> Self {
        Self { id: 0, data }
    }
    /// The identity: equal for clones, 0 for constants.
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// The operands of an operator that it differentiates: `&Var`, `Option<&Var>`, slices and tuples of them.
pub trait Operands {
    /// What the rule keeps of them.
    type Owned: 'static;

    /// Clones of them. A [`Var`] is a handle; the values are shared.
    fn to_owned(&self) -> Self::Owned;

    /// Whether no gradient is wanted of any of them.
    fn are_constant(&self) -> bool;
}

impl Operands for &Var {
    type Owned = Var;

    fn to_owned(&self) -> Var {
        (*self).clone()
    }

    fn are_constant(&self) -> bool {
        self.id == 0
    }
}

impl<O: Operands> Operands for Option<O> {
    type Owned = Option<O::Owned>;

    fn to_owned(&self) -> Self::Owned {
        self.as_ref().map(O::to_owned)
    }

    fn are_constant(&self) -> bool {
        self.as_ref().is_none_or(O::are_constant)
    }
}

impl<O: Operands> Operands for &[O] {
    type Owned = Vec<O::Owned>;

    fn to_owned(&self) -> Self::Owned {
        self.iter().map(O::to_owned).collect()
    }

    fn are_constant(&self) -> bool {
        self.iter().all(O::are_constant)
    }
}

macro_rules! operands_of_tuples {
    ($(($($name:ident . $at:tt),+))+) => {$(
        impl<$($name: Operands),+> Operands for ($($name,)+) {
            type Owned = ($($name::Owned,)+);

            fn to_owned(&self) -> Self::Owned {
                ($(self.$at.to_owned(),)+)
            }

            fn are_constant(&self) -> bool {
                $(self.$at.are_constant())&&+
            }
        }
    )+};
}

operands_of_tuples! {
    (A.0, B.1)
    (A.0, B.1, C.2)
    (A.0, B.1, C.2, D.3)
    (A.0, B.1, C.2, D.3, E.4)
    (A.0, B.1, C.2, D.3, E.4, F.5)
    (A.0, B.1, C.2, D.3, E.4, F.5, G.6)
    (A.0, B.1, C.2, D.3, E.4, F.5, G.6, H.7)
}

/// Gradients by variable, while they are being collected and afterwards.
#[derive(Debug, Default)]
pub struct Grads {
    found: HashMap<u64, Tensor>,
    /// Where the gradients of some variables have to end up: those of parameters, in the optimizer's memory.
    places: HashMap<u64, Tensor>,
    /// The gradients that running rules are reading.
    held: Vec<Tensor>,
}

impl Grads {
    /// No gradients yet. That of a variable in `places`, by its id, will be written there.
    pub fn with_places(places: HashMap<u64, Tensor>) -> Self {
        Self { places, ..Self::default() }
    }

    /// Whether the gradient of this variable is wanted: false for constants.
    pub fn wants(&self, var: &Var) -> bool {
        var.id != 0
    }

    /// A tensor for a rule to write its contribution to: the variable's place if it has one and this is the first
    /// contribution, else new scratch of the variable's shape and element type.
    pub fn alloc(&self, var: &Var) -> Tensor {
        match self.places.get(&var.id) {
            Some(place) if !self.found.contains_key(&var.id) => place.clone(),
            _ => var.data.scratch_like("gradient", var.data.shape()),
        }
    }

    /// Adds a contribution to a variable's gradient. The first one becomes the gradient, without a copy, and later ones
    /// are added to it in place. One tensor may be the contribution to several variables. So while another gradient or
    /// a running rule uses its memory, a later contribution makes a new sum instead.
    pub fn add(&mut self, r: &mut Recording, var: &Var, contribution: Tensor) -> Result<()> {
        if !self.wants(var) {
            return Ok(());
        }
        contribution.expect_shape("gradient", var.data.shape())?;
        let beside = |other: &Tensor| other.memory().same_buffer(contribution.memory());
        let sum = match (self.found.get(&var.id), self.places.get(&var.id)) {
            (Some(sum), None) if beside(sum) || self.is_shared(var, sum) => sum.plus(r, &contribution)?,
            (Some(sum), _) => return sum.add_into(r, &contribution),
            (None, Some(place)) => {
                if !place.memory().same(contribution.memory()) {
                    place.copy_from(r, &contribution)?;
                }
                place.clone()
            }
            // the place of a variable holds no other variable's gradient
            (None, None) if self.places.values().any(beside) => {
                let copy = Tensor::scratch("gradient", contribution.shape());
                copy.copy_from(r, &contribution)?;
                copy
            }
            (None, None) => contribution,
        };
        self.found.insert(var.id, sum);
        Ok(())
    }

    /// Whether another variable's gradient, or a running rule, uses the memory of this sum.
    fn is_shared(&self, var: &Var, sum: &Tensor) -> bool {
        let others = self.found.iter().filter(|(id, _)| **id != var.id).map(|(_, other)| other);
        self.held.iter().chain(others).any(|other| other.memory().same_buffer(sum.memory()))
    }

    /// Takes the gradient accumulated so far out of the table, so that a backward kernel can fuse the addition (`dx =
    /// dy·w + taken`). Write the sum to a *new* tensor and hand it back with [`Grads::add`]: the taken one may share
    /// its memory with another variable's gradient. None for a variable with a place, whose gradient has a fixed
    /// buffer.
    pub fn take(&mut self, var: &Var) -> Option<Tensor> {
        if self.places.contains_key(&var.id) { None } else { self.found.remove(&var.id) }
    }

    /// Whether the variable with this identity has a gradient.
    pub fn has(&self, id: u64) -> bool {
        self.found.contains_key(&id)
    }

    /// The gradient of a variable: PyTorch's `.grad`. None if nothing depended on it. It may share its memory with that
    /// of another variable.
    pub fn get(&self, var: &Var) -> Option<&Tensor> {
        self.found.get(&var.id)
    }
}

type Rule = Box<dyn FnOnce(&mut Recorder, &mut Grads) -> Result<()>>;

struct Step {
    scope: Arc<str>,
    rule: Rule,
}

/// Where operators put their launches and their gradient rules. It knows the device, the module that is being computed
/// and the precision, so that an operator takes nothing but this and its operands.
///
/// Nothing runs while it records. [`Recorder::finish`] gives the [`Recording`] to make a program of, which can be
/// replayed; [`Recorder::run`](Recording::run) runs what was recorded so far at once.
pub struct Recorder {
    recording: Recording,
    steps: Vec<Step>,
    rules: Rules,
    checkpointing: bool,
}

/// What becomes of gradient rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// They are kept.
    Kept,
    /// They are not; results are variables all the same, because a segment is recorded again with them later.
    Later,
    /// There are none, and results are constants.
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
    /// Nothing recorded yet, in f32, for a forward and a backward pass.
    pub fn new(g: &Gpu) -> Self {
        Self { recording: Recording::new(g), steps: Vec::new(), rules: Rules::Kept, checkpointing: false }
    }

    /// Nothing recorded yet, for a forward pass only: it keeps no rules, like PyTorch's `torch.inference_mode()`.
    pub fn inference(g: &Gpu) -> Self {
        Self { rules: Rules::None, ..Self::new(g) }
    }

    /// If `on`, keeps only the inputs of each [`Recorder::segment`] (Chen et al. 2016).
    #[must_use]
    pub fn checkpointing(self, on: bool) -> Self {
        Self { checkpointing: on, ..self }
    }

    /// Computes products in this precision.
    #[must_use]
    pub fn in_precision(mut self, precision: Precision) -> Self {
        self.recording.set_precision(precision);
        self
    }

    /// Whether rules are kept. Operators ask before they save what only a rule would read.
    pub fn keeps_rules(&self) -> bool {
        self.rules == Rules::Kept
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

    /// Records `body` as a module of this name. Names inside of each other are joined by dots.
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

    /// Records `body` without rules. Its results are constants: PyTorch's `with torch.no_grad():`.
    pub fn no_grad<T>(&mut self, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.with_rules(Rules::None, body)
    }

    fn with_rules<T>(&mut self, rules: Rules, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = std::mem::replace(&mut self.rules, rules);
        let value = body(self);
        self.rules = before;
        value
    }

    /// Records `body` as part of this phase.
    pub fn phase<T>(&mut self, phase: Phase, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.recording.set_phase(phase);
        let value = body(self);
        self.recording.set_phase(before);
        value
    }

    /// Adds an operator with one result. `rule` gets the operands again, as its own, and the gradient of the result. It
    /// runs only if there is one, and if an operand is a variable: a result of constants is a constant.
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

    /// Adds an operator with several results. `rule` gets the operands again, as its own, and the gradient of each
    /// result that something depended on. It runs only if there is one, and if an operand is a variable.
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

    /// Records a part of the forward pass, `f`, and returns its results. If the recorder is checkpointing, `f` is
    /// recorded without rules now, and a second time, with them, when the backward pass reaches it. So `f` must launch
    /// the same kernels each time. The gradients are the same to the bit either way. A variable that `f` holds may
    /// itself be a result, and stays the same variable.
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
            let done = f(r).and_then(|again| {
                for (before, now) in ids.into_iter().zip(again.map(|out| out.id)) {
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

    /// Launches the rules in reverse, starting from a gradient of 1 for every element of `loss`: PyTorch's
    /// `loss.sum().backward()`. Afterwards the recorder holds no rules.
    pub fn backward(&mut self, loss: &Var, grads: Grads) -> Result<Grads> {
        let seed = Tensor::scratch("dloss", loss.data.shape());
        self.phase(Phase::Backward, |r| seed.fill(r, 1.0))?;
        self.backward_from(loss, seed, grads)
    }

    /// [`Recorder::backward`] from a given gradient of `out`: PyTorch's `out.backward(dout)`.
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

    /// Records `body`, and gives the recording with what `body` returned. That keeps the values of its tensors after
    /// each replay; the memory of all others is shared within the program.
    pub fn record<T>(mut self, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<(Recording, T)> {
        let kept = body(&mut self)?;
        Ok((self.finish(), kept))
    }

    /// The launches, without the rules that were not run.
    pub fn finish(self) -> Recording {
        self.recording
    }
}

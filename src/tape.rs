//! Automatic differentiation: PyTorch's autograd, written down by hand.
//!
//! An operator launches its forward kernel and pushes a *rule*, a closure that launches the backward kernels. Running
//! the rules in reverse order of their forward launches is always valid, so there is no topological sort. What a rule
//! needs is moved into its closure and freed when it has run. Backward kernels overwrite their output; only
//! [`Grads::add`] adds.
//!
//! The tensors that rules keep are most of the memory of a training step. A tape of [`Tape::checkpointing`] trades that
//! memory for time (PyTorch's `torch.utils.checkpoint`): of each [`Tape::segment`] it keeps the inputs only, and
//! launches the segment again when gradients arrive at it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::gpu::{Gpu, Phase};
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
    pub fn add(&mut self, g: &Gpu, var: &Var, contribution: Tensor) -> Result<()> {
        if !self.wants(var) {
            return Ok(());
        }
        contribution.expect_shape("gradient", var.data.shape())?;
        let beside = |other: &Tensor| other.memory().same_buffer(contribution.memory());
        let sum = match (self.found.get(&var.id), self.places.get(&var.id)) {
            (Some(sum), None) if beside(sum) || self.is_shared(var, sum) => sum.plus(g, &contribution)?,
            (Some(sum), _) => return sum.add_into(g, &contribution),
            (None, Some(place)) => {
                if !place.memory().same(contribution.memory()) {
                    place.copy_from(g, &contribution)?;
                }
                place.clone()
            }
            // the place of a variable holds no other variable's gradient
            (None, None) if self.places.values().any(beside) => {
                let copy = Tensor::scratch("gradient", contribution.shape());
                copy.copy_from(g, &contribution)?;
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

type Rule = Box<dyn FnOnce(&Gpu, &mut Grads) -> Result<()>>;

struct Step {
    scope: Option<Arc<str>>,
    rule: Rule,
}

/// The rules of one forward pass.
#[derive(Default)]
pub struct Tape {
    steps: Vec<Step>,
    off: bool,
    checkpointing: bool,
}

impl Tape {
    /// An empty tape.
    pub fn new() -> Self {
        Self::default()
    }

    /// A tape that keeps no rules, for inference: PyTorch's `torch.no_grad()`.
    pub fn off() -> Self {
        Self { off: true, ..Self::default() }
    }

    /// An empty tape that, if `on`, keeps only the inputs of each [`Tape::segment`] (Chen et al. 2016).
    pub fn checkpointing(on: bool) -> Self {
        Self { checkpointing: on, ..Self::default() }
    }

    /// Whether rules are kept. Operators ask before they save what only a rule would read.
    pub fn is_on(&self) -> bool {
        !self.off
    }

    /// Adds an operator with one result. `rule` gets the gradient of the result, and does not run if there is none.
    pub fn push(
        &mut self, g: &Gpu, out: Tensor, rule: impl FnOnce(&Gpu, &Tensor, &mut Grads) -> Result<()> + 'static,
    ) -> Var {
        let [out] = self.push_many(g, [out], move |g, [dout], grads| match dout {
            Some(dout) => rule(g, &dout, grads),
            None => Ok(()),
        });
        out
    }

    /// Adds an operator with several results. `rule` gets the gradient of each result that something depended on, and
    /// does not run if there is none at all.
    pub fn push_many<const N: usize>(
        &mut self, g: &Gpu, outs: [Tensor; N],
        rule: impl FnOnce(&Gpu, [Option<Tensor>; N], &mut Grads) -> Result<()> + 'static,
    ) -> [Var; N] {
        let outs = outs.map(Var::leaf);
        if !self.off {
            let ids = outs.each_ref().map(Var::id);
            let rule: Rule = Box::new(move |g, grads| {
                let douts = ids.map(|id| grads.found.remove(&id));
                if douts.iter().all(Option::is_none) {
                    return Ok(());
                }
                let before = grads.held.len();
                grads.held.extend(douts.iter().flatten().cloned());
                let done = rule(g, douts, grads);
                grads.held.truncate(before);
                done
            });
            self.steps.push(Step { scope: g.current_scope(), rule });
        }
        outs
    }

    /// Runs a part of the forward pass, `f`, and returns its results. If the tape is checkpointing, `f` runs without a
    /// tape now, and a second time, with one, when the backward pass reaches it. So `f` must launch the same kernels
    /// each time. The gradients are the same to the bit either way. A variable that `f` holds may itself be a result,
    /// and stays the same variable.
    pub fn segment<const N: usize>(
        &mut self, g: &Gpu, f: impl Fn(&Gpu, &mut Self) -> Result<[Var; N]> + 'static,
    ) -> Result<[Var; N]> {
        if !self.checkpointing {
            return f(g, self);
        }
        let outs = f(g, &mut Self::off())?;
        let ids = outs.each_ref().map(Var::id);
        let rule: Rule = Box::new(move |g, grads| {
            if !ids.iter().any(|id| grads.has(*id)) {
                return Ok(());
            }
            let mut t = Self::new();
            let again = f(g, &mut t)?.map(|out| out.id);
            for (before, now) in ids.into_iter().zip(again) {
                if let Some(dout) = grads.found.remove(&before) {
                    grads.found.insert(now, dout);
                }
            }
            t.run_rules(g, grads)
        });
        self.steps.push(Step { scope: g.current_scope(), rule });
        Ok(outs)
    }

    /// Launches the rules in reverse, starting from a gradient of 1 for every element of `loss`: PyTorch's
    /// `loss.sum().backward()`.
    pub fn backward(self, g: &Gpu, loss: &Var, grads: Grads) -> Result<Grads> {
        let seed = Tensor::scratch("dloss", loss.data.shape());
        let _phase = g.phase(Phase::Backward);
        seed.fill(g, 1.0)?;
        self.backward_from(g, loss, seed, grads)
    }

    /// [`Tape::backward`] from a given gradient of `out`: PyTorch's `out.backward(dout)`.
    pub fn backward_from(self, g: &Gpu, out: &Var, dout: Tensor, mut grads: Grads) -> Result<Grads> {
        let _phase = g.phase(Phase::Backward);
        grads.held.push(dout.clone());
        grads.add(g, out, dout)?;
        self.run_rules(g, &mut grads)?;
        grads.held.pop();
        Ok(grads)
    }

    fn run_rules(self, g: &Gpu, grads: &mut Grads) -> Result<()> {
        self.steps.into_iter().rev().try_for_each(|step| {
            let _scope = g.set_scope(step.scope);
            (step.rule)(g, grads)
        })
    }
}

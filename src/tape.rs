//! The tape: what to launch to get gradients, written down while the forward pass is launched.
//!
//! One tape, passed as `&mut Tape`. A step's rule is a closure under its forward launch, so push order is a valid order
//! and no topological sort is needed; what the rule needs is moved into the closure and freed when it has run.
//! Backward kernels assign; only [`Grads::add`] accumulates.
//!
//! What rules keep is most of the memory of a step. A [`Tape::checkpointing`] trades it for time, [`Tape::segment`] by segment:
//! it keeps what enters one, and launches the segment again when gradients come back to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::gpu::{Gpu, Phase};
use crate::tensor::Tensor;

/// A tensor that gradients flow to. Operators take `&Var` where they differentiate and `&Tensor` where they do not.
#[derive(Debug, Clone)]
pub struct Var {
    id: u64,
    /// The value.
    pub data: Tensor,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Var {
    /// A leaf: a parameter or an input whose gradient is wanted.
    pub fn leaf(data: Tensor) -> Self {
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), data }
    }
    /// A value without gradient; rules skip the work for it.
    pub fn constant(data: Tensor) -> Self {
        Self { id: 0, data }
    }
    /// Identity, equal for clones; 0 for constants.
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// Gradients by variable, while they are being collected and afterwards.
#[derive(Debug, Default)]
pub struct Grads {
    found: HashMap<u64, Tensor>,
    home: HashMap<u64, Tensor>,
    /// The gradients that running rules are reading.
    held: Vec<Tensor>,
}

impl Grads {
    /// Gradients of which some have a place: the first contribution to a variable in `home` is written there.
    pub fn with_places(home: HashMap<u64, Tensor>) -> Self {
        Self { home, ..Self::default() }
    }

    /// Whether anybody wants the gradient of this variable.
    pub fn wants(&self, var: &Var) -> bool {
        var.id != 0
    }

    /// Where a rule should write its contribution: the variable's place if this is the first one, else scratch, in f16
    /// where the variable is.
    pub fn alloc(&self, var: &Var) -> Tensor {
        match self.home.get(&var.id) {
            Some(home) if !self.found.contains_key(&var.id) => home.clone(),
            _ => var.data.scratch_like("gradient", var.data.shape()),
        }
    }

    /// Adds a contribution: the first one moves in, later ones are added to it. One tensor may be the contribution to
    /// several variables: as long as anybody else looks at its memory, later ones make a new sum instead.
    pub fn add(&mut self, g: &Gpu, var: &Var, contribution: Tensor) -> Result<()> {
        if !self.wants(var) {
            return Ok(());
        }
        contribution.expect_shape("gradient", var.data.shape())?;
        let beside = |other: &Tensor| other.as_ref().same_buffer(contribution.as_ref());
        let sum = match (self.found.get(&var.id), self.home.get(&var.id)) {
            (Some(sum), None) if beside(sum) || self.is_shared(var, sum) => sum.plus(g, &contribution)?,
            (Some(sum), _) => return sum.add_into(g, &contribution),
            (None, Some(home)) => {
                if !home.as_ref().same(contribution.as_ref()) {
                    home.copy_from(g, &contribution)?;
                }
                home.clone()
            }
            // nobody else moves into the place of a variable
            (None, None) if self.home.values().any(beside) => {
                let copy = Tensor::scratch("gradient", contribution.shape());
                copy.copy_from(g, &contribution)?;
                copy
            }
            (None, None) => contribution,
        };
        self.found.insert(var.id, sum);
        Ok(())
    }

    /// Whether another variable's gradient or a running rule looks at the memory of this sum.
    fn is_shared(&self, var: &Var, sum: &Tensor) -> bool {
        let others = self.found.iter().filter(|(id, _)| **id != var.id).map(|(_, other)| other);
        self.held.iter().chain(others).any(|other| other.as_ref().same_buffer(sum.as_ref()))
    }

    /// Removes what has been collected so far, for a kernel that adds its own contribution while writing the sum.
    /// The sum has to come back through [`Grads::add`], in a tensor of its own: the memory of this one may be shared.
    /// Nothing is taken from a variable's place.
    pub fn take(&mut self, var: &Var) -> Option<Tensor> {
        if self.home.contains_key(&var.id) { None } else { self.found.remove(&var.id) }
    }

    /// Whether the variable with this identity has a gradient.
    pub fn has(&self, id: u64) -> bool {
        self.found.contains_key(&id)
    }

    /// The gradient of a variable, if anything depended on it. Another variable's may lie in the same memory.
    pub fn get(&self, var: &Var) -> Option<&Tensor> {
        self.found.get(&var.id)
    }
}

type Rule = Box<dyn FnOnce(&Gpu, &mut Grads) -> Result<()>>;

struct Step {
    scope: Option<Arc<str>>,
    rule: Rule,
}

/// The steps of one forward pass.
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

    /// A tape that forgets: for inference.
    pub fn off() -> Self {
        Self { off: true, ..Self::default() }
    }

    /// An empty tape that, if `on`, keeps nothing of what a [`Tape::segment`] computes on its way (Chen et al. 2016).
    pub fn checkpointing(on: bool) -> Self {
        Self { checkpointing: on, ..Self::default() }
    }

    /// Whether rules are kept, so that operators need not save what only a rule would read.
    pub fn is_on(&self) -> bool {
        !self.off
    }

    /// Adds a step with one result. `rule` gets the gradient of the result; it does not run if there is none.
    pub fn push(
        &mut self, g: &Gpu, out: Tensor, rule: impl FnOnce(&Gpu, &Tensor, &mut Grads) -> Result<()> + 'static,
    ) -> Var {
        let [out] = self.push_many(g, [out], move |g, [dout], grads| match dout {
            Some(dout) => rule(g, &dout, grads),
            None => Ok(()),
        });
        out
    }

    /// Adds a step with several results. `rule` gets a gradient for each that something depended on; it does not run if
    /// there is none at all.
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

    /// A part of the forward pass: what `f` launches and returns, whatever the tape. If the tape is checkpointing, `f` runs
    /// without one, and again with one as soon as there is a gradient for a result; so it must do the same each time. The
    /// gradients are the same to the bit. A variable that `f` holds may be a result: it stays that variable.
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

    /// Launches the rules in reverse, starting from d`loss` = 1 for every element of `loss`.
    pub fn backward(self, g: &Gpu, loss: &Var, grads: Grads) -> Result<Grads> {
        let seed = Tensor::scratch("dloss", loss.data.shape());
        let _phase = g.phase(Phase::Backward);
        seed.fill(g, 1.0)?;
        self.backward_from(g, loss, seed, grads)
    }

    /// [`Tape::backward`] from a given gradient of `out`.
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

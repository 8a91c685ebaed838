//! Cases as data: how an operator is launched, what the oracle says about it, and the least work it is.

use std::fmt;

use serde_json::{Map, Value};

use super::inputs::{Along, Fill, Named};
use super::oracle::{Oracle, Values, Want};
use super::selection::{Scope, Shape};
use crate::error::Result;
use crate::gpu::{Gpu, Precision, Program, Work};
#[cfg(feature = "files")]
use crate::ops::matmul;
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

/// Which half of an operator, or all of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Inputs to results.
    Forward,
    /// Gradients of results to gradients of inputs.
    Backward,
    /// Both, and the update of the weights.
    Training,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Training => "training",
        })
    }
}

/// A result of an operator, and where its samples lie.
#[derive(Debug, Clone)]
pub struct Out {
    name: &'static str,
    along: Along,
    var: Var,
}

/// A result that has a gradient.
pub fn out(name: &'static str, along: Along, var: Var) -> Out {
    Out { name, along, var }
}

/// A result of launches that have no rule.
pub fn result(name: &'static str, along: Along, tensor: Tensor) -> Out {
    Out { name, along, var: Var::constant(tensor) }
}

type Build = Box<dyn Fn(&mut Recorder, &Fill) -> Result<Vec<Out>>>;

/// One operator at one shape.
pub struct Case {
    /// Stem of the family.
    pub family: &'static str,
    /// What is special, and the shape.
    pub name: String,
    /// Floor of each direction it has; none if it is only checked.
    pub floors: Vec<(Direction, Work)>,
    /// What another implementation has to know to compute the same.
    pub facts: Map<String, Value>,
    pub(super) oracle: Oracle,
    build: Build,
    rule: bool,
    precision: Precision,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// The cases of a family while they are being listed.
#[derive(Debug)]
pub struct Cases<'a> {
    /// Which cases the command line selected.
    pub scope: &'a Scope,
    family: &'static str,
    list: Vec<Case>,
}

impl<'a> Cases<'a> {
    pub(super) fn new(scope: &'a Scope, family: &'static str) -> Self {
        Self { scope, family, list: Vec::new() }
    }

    pub(super) fn into_list(self) -> Vec<Case> {
        self.list
    }

    /// A case that is timed.
    pub fn case(&mut self, name: impl Into<String>) -> Draft<'_, 'a> {
        Draft { cases: self, name: name.into(), floors: Vec::new(), facts: Map::new(), oracle: None }
    }
}

/// A case while it is being described.
#[derive(Debug)]
pub struct Draft<'c, 'a> {
    cases: &'c mut Cases<'a>,
    name: String,
    floors: Vec<(Direction, Work)>,
    facts: Map<String, Value>,
    oracle: Option<Oracle>,
}

impl Draft<'_, '_> {
    /// Floors forward and backward, for a case that is timed; without any, it is only checked.
    pub fn floors(mut self, [forward, backward]: [Work; 2]) -> Self {
        self.floors = vec![(Direction::Forward, forward), (Direction::Backward, backward)];
        self
    }

    /// Floor of launches that have no rule.
    pub fn floor(mut self, forward: Work) -> Self {
        self.floors = vec![(Direction::Forward, forward)];
        self
    }

    /// A model's shape.
    pub fn at(self, shape: &Shape) -> Self {
        self.fact("shape", shape.json())
    }

    /// Something else to know.
    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.into(), value.into());
        self
    }

    /// What is right, for up to `count` samples, which are called `unit`.
    pub fn check(
        mut self, count: usize, unit: &'static str, expect: impl Fn(&Values) -> Result<Vec<Want>> + 'static,
    ) -> Self {
        self.oracle = Some(Oracle { count, unit, expect: Box::new(expect) });
        self
    }

    /// The operator on fresh inputs; every result gets a gradient.
    pub fn op(self, build: impl Fn(&mut Recorder, &Fill) -> Result<Vec<Out>> + 'static) {
        self.push(Box::new(build), true);
    }

    /// Launches that have no rule.
    pub fn launches(self, build: impl Fn(&mut Recorder, &Fill) -> Result<Vec<Out>> + 'static) {
        self.push(Box::new(build), false);
    }

    fn push(self, build: Build, rule: bool) {
        let Self { cases, name, floors, facts, oracle } = self;
        // without an oracle nothing is expected, and the check says which result it knows nothing about
        let oracle = oracle.unwrap_or(Oracle { count: 1, unit: "samples", expect: Box::new(|_| Ok(Vec::new())) });
        let (family, precision) = (cases.family, cases.scope.precision);
        cases.list.push(Case { family, name, floors, facts, oracle, build, rule, precision });
    }
}

/// A case with inputs in memory and programs to run.
pub struct Built {
    /// Inputs to results.
    pub forward: Program,
    /// Gradients of results to gradients of inputs.
    pub backward: Option<Program>,
    /// What the operator reads.
    pub inputs: Vec<Named>,
    /// What it writes.
    pub outputs: Vec<Named>,
    /// Gradients of `outputs`, in their order.
    pub douts: Vec<Named>,
    /// Gradients of the leaves among `inputs`.
    pub grads: Vec<Named>,
    /// While it is there, what it saves is kept, as in training.
    _rules: Recorder,
}

impl Built {
    /// The program of a direction.
    pub fn program(&self, direction: Direction) -> Option<&Program> {
        if direction == Direction::Forward { Some(&self.forward) } else { self.backward.as_ref() }
    }
}

impl Case {
    /// Whether it has a rule, so that a backward pass can be built.
    pub fn has_rule(&self) -> bool {
        self.rule
    }

    /// Measures which paths are fastest for its products, if it has any that were not measured yet.
    #[cfg(feature = "files")]
    pub fn tune(&self, g: &Gpu) -> Result<()> {
        if self.family == "matmul" && !g.caps().software {
            let built = self.build(g, Direction::Backward)?;
            for program in [Some(&built.forward), built.backward.as_ref()].into_iter().flatten() {
                matmul::tune(g, program.launches(), self.precision)?;
            }
        }
        Ok(())
    }

    /// Draws inputs and records the launches. A backward pass needs the forward pass to have run once: it has.
    pub fn build(&self, g: &Gpu, direction: Direction) -> Result<Built> {
        let fill = Fill::new(g)?;
        let mut r = Recorder::new(g).in_precision(self.precision);
        let outs = (self.build)(&mut r, &fill)?;
        let forward = Program::new(r.take())?;
        let named = |name: &str, along, tensor: &Tensor| Named {
            name: name.into(),
            along,
            tensor: tensor.clone(),
            leaf: None,
            words: false,
        };
        let outputs: Vec<Named> = outs.iter().map(|o| named(o.name, o.along, &o.var.data)).collect();
        if direction == Direction::Forward {
            let inputs = fill.into_inputs();
            let (douts, grads) = (Vec::new(), Vec::new());
            return Ok(Built { forward, backward: None, inputs, outputs, douts, grads, _rules: r });
        }
        forward.run()?;
        let mut douts = Vec::new();
        for out in &outs {
            douts.push(named(out.name, out.along, &fill.gradient_of(&out.var.data)?));
        }
        let inputs = fill.into_inputs();
        let grads = {
            let mut grads = Grads::default();
            for (out, dout) in outs.iter().zip(&douts).skip(1) {
                grads.add(&mut r, &out.var, dout.tensor.clone())?;
            }
            if let (Some(out), Some(dout)) = (outs.first(), douts.first()) {
                grads = r.backward_from(&out.var, dout.tensor.clone(), grads)?;
            }
            let of = |input: &Named| Some(named(&input.name, input.along, grads.get(input.leaf.as_ref()?)?));
            inputs.iter().filter_map(of).collect()
        };
        let backward = Some(Program::new(r.take())?);
        Ok(Built { forward, backward, inputs, outputs, douts, grads, _rules: r })
    }
}

//! Cases as data: the launches of an operator at one shape, the oracle's results, and the least work.

use std::fmt;

use serde_json::{Map, Value};

use super::inputs::{Along, Fill, Named};
use super::oracle::{Oracle, Values, Want};
use super::selection::{Scope, Shape};
use crate::error::Result;
use crate::gpu::{Gpu, Precision, Program, Recording, Work};
#[cfg(feature = "files")]
use crate::ops::matmul;
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

/// What is timed: a pass of an operator, or a whole training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The forward pass.
    Forward,
    /// The backward pass.
    Backward,
    /// Forward pass, backward pass and update of the weights.
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

/// A named result of an operator, and the axis of its samples.
#[derive(Debug, Clone)]
pub struct Out {
    name: &'static str,
    along: Along,
    var: Var,
}

/// A result of an operator with a gradient rule.
pub fn out(name: &'static str, along: Along, var: Var) -> Out {
    Out { name, along, var }
}

/// A result of launches without a gradient rule.
pub fn result(name: &'static str, along: Along, tensor: Tensor) -> Out {
    Out { name, along, var: Var::constant(tensor) }
}

type Build = Box<dyn Fn(&mut Recorder, &Fill) -> Result<Vec<Out>>>;

/// One operator at one shape.
pub struct Case {
    /// Name of the operator family, which is the stem of its files.
    pub family: &'static str,
    /// Variant and shape, as printed in the table.
    pub name: String,
    /// Least work of each timed direction. Empty: the case is checked but not timed.
    pub floors: Vec<(Direction, Work)>,
    /// Parameters that another implementation needs to compute the same case, for the JSON file and the dump.
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

/// Collects the cases of a family.
#[derive(Debug)]
pub struct Cases<'a> {
    /// The selection made on the command line.
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

    /// Begins a case. `op` or `launches` of the returned draft adds it to the list.
    pub fn case(&mut self, name: impl Into<String>) -> Draft<'_, 'a> {
        Draft { cases: self, name: name.into(), floors: Vec::new(), facts: Map::new(), oracle: None }
    }
}

/// Builder of a case.
#[derive(Debug)]
pub struct Draft<'c, 'a> {
    cases: &'c mut Cases<'a>,
    name: String,
    floors: Vec<(Direction, Work)>,
    facts: Map<String, Value>,
    oracle: Option<Oracle>,
}

impl Draft<'_, '_> {
    /// Sets the least work of the forward and the backward pass. Without floors a case is checked but not timed.
    pub fn floors(mut self, [forward, backward]: [Work; 2]) -> Self {
        self.floors = vec![(Direction::Forward, forward), (Direction::Backward, backward)];
        self
    }

    /// Sets the least work of launches without a gradient rule.
    pub fn floor(mut self, forward: Work) -> Self {
        self.floors = vec![(Direction::Forward, forward)];
        self
    }

    /// Records a model's shape as a fact.
    pub fn at(self, shape: &Shape) -> Self {
        self.fact("shape", shape.json())
    }

    /// Records another fact.
    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.into(), value.into());
        self
    }

    /// Sets the oracle. `expect` computes the results and gradients of the compared samples: at most `count` of them,
    /// to bound its time on the CPU. `unit` names the samples in the table ("images", "rows").
    pub fn check(
        mut self, count: usize, unit: &'static str, expect: impl Fn(&Values) -> Result<Vec<Want>> + 'static,
    ) -> Self {
        self.oracle = Some(Oracle { count, unit, expect: Box::new(expect) });
        self
    }

    /// Adds the case. `build` draws inputs and launches an operator whose gradients are checked too: each of its
    /// results gets a random gradient.
    pub fn op(self, build: impl Fn(&mut Recorder, &Fill) -> Result<Vec<Out>> + 'static) {
        self.push(Box::new(build), true);
    }

    /// Adds the case. `build` draws inputs and records launches without a gradient rule.
    pub fn launches(self, build: impl Fn(&mut Recorder, &Fill) -> Result<Vec<Out>> + 'static) {
        self.push(Box::new(build), false);
    }

    fn push(self, build: Build, rule: bool) {
        let Self { cases, name, floors, facts, oracle } = self;
        // without an oracle the check fails, and its error names the first result
        let oracle = oracle.unwrap_or(Oracle { count: 1, unit: "samples", expect: Box::new(|_| Ok(Vec::new())) });
        let (family, precision) = (cases.family, cases.scope.precision);
        cases.list.push(Case { family, name, floors, facts, oracle, build, rule, precision });
    }
}

/// A case that is ready to run: inputs in GPU memory, and programs.
pub struct Built {
    /// The forward pass.
    pub forward: Program,
    /// The backward pass. It reads what the last forward pass saved.
    pub backward: Option<Program>,
    /// Inputs of the operator.
    pub inputs: Vec<Named>,
    /// Results of the operator.
    pub outputs: Vec<Named>,
    /// Gradients of `outputs`, in the same order.
    pub douts: Vec<Named>,
    /// Gradients of the leaves among `inputs`.
    pub grads: Vec<Named>,
    /// Owns the rules, and so the tensors that they saved, which would else lose their memory.
    _rules: Recorder,
}

impl Built {
    /// The program of a direction.
    pub fn program(&self, direction: Direction) -> Option<&Program> {
        if direction == Direction::Forward { Some(&self.forward) } else { self.backward.as_ref() }
    }
}

impl Case {
    /// Whether the operator has a gradient rule, so that a backward pass can be built.
    pub fn has_rule(&self) -> bool {
        self.rule
    }

    /// Tunes the matrix products of this case that were not measured yet.
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

    /// Draws inputs and makes the programs. With a backward pass, the forward program has run once when this returns,
    /// so that the backward pass finds what it saved.
    pub fn build(&self, g: &Gpu, direction: Direction) -> Result<Built> {
        let fill = Fill::new(g)?;
        let mut r = Recorder::new(g).in_precision(self.precision);
        let outs = (self.build)(&mut r, &fill)?;
        let forward = Program::new(r.take())?;
        let outputs: Vec<Named> = outs.iter().map(|o| named(o.name, o.along, &o.var.data)).collect();
        if direction == Direction::Forward {
            let inputs = fill.into_inputs();
            let (douts, grads) = (Vec::new(), Vec::new());
            return Ok(Built { forward, backward: None, inputs, outputs, douts, grads, _rules: r });
        }
        forward.run()?;
        let (douts, grads) = backward(&mut r, &fill, &outs)?;
        let backward = Some(Program::new(r.take())?);
        Ok(Built { forward, backward, inputs: fill.into_inputs(), outputs, douts, grads, _rules: r })
    }

    /// What the case launches, forward and backward. Nothing runs, so a device that only plans will do.
    pub fn record(&self, g: &Gpu) -> Result<[Recording; 2]> {
        let fill = Fill::new(g)?;
        let mut r = Recorder::new(g).in_precision(self.precision);
        let outs = (self.build)(&mut r, &fill)?;
        let forward = r.take();
        if self.rule {
            backward(&mut r, &fill, &outs)?;
        }
        Ok([forward, r.take()])
    }
}

/// Records the backward pass of `outs`, each with a random gradient. Returns those gradients, and the gradients of the
/// inputs that are leaves.
fn backward(r: &mut Recorder, fill: &Fill, outs: &[Out]) -> Result<(Vec<Named>, Vec<Named>)> {
    let mut douts = Vec::new();
    for out in outs {
        douts.push(named(out.name, out.along, &fill.gradient_of(&out.var.data)?));
    }
    let mut grads = Grads::default();
    for (out, dout) in outs.iter().zip(&douts).skip(1) {
        grads.add(r, &out.var, dout.tensor.clone())?;
    }
    if let (Some(out), Some(dout)) = (outs.first(), douts.first()) {
        grads = r.backward_from(&out.var, dout.tensor.clone(), grads)?;
    }
    let of = |input: &Named| Some(named(&input.name, input.along, grads.get(input.leaf.as_ref()?)?));
    let found = fill.inputs().iter().filter_map(of).collect();
    Ok((douts, found))
}

fn named(name: &str, along: Along, tensor: &Tensor) -> Named {
    Named { name: name.into(), along, tensor: tensor.clone(), leaf: None, words: false }
}

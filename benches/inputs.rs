//! The models' shapes, and random inputs made on the device.

use std::cell::Cell;
use std::fmt;

use rowscan::Result;
use rowscan::gpu::{Gpu, Program};
use rowscan::ops::rng;
use rowscan::ops::step::StepState;
use rowscan::tape::Var;
use rowscan::tensor::Tensor;

use crate::common::Bench;

/// A batch of token sequences in a model.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub model: &'static str,
    pub b: usize,
    pub l: usize,
    pub d: usize,
}

/// HybridNet at 224: name and width.
const MODELS: [(&str, usize); 3] = [("tiny", 192), ("small", 384), ("base", 768)];
/// Tokens of half an image, and of a whole one with registers.
const LENGTHS: [usize; 2] = [98, 208];

impl Shape {
    /// Inner width of the Mamba mixer.
    pub fn e(&self) -> usize {
        2 * self.d
    }
    /// Tokens of the batch.
    pub fn rows(&self) -> usize {
        self.b * self.l
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}x{}", self.model, self.l, self.b)
    }
}

impl Bench {
    /// 128 in full, 2 on a software adapter.
    pub fn batch(&self) -> usize {
        if self.full { 128 } else { 2 }
    }

    /// Every model at every length, and single images; without `full` one of each.
    pub fn shapes(&self) -> Vec<Shape> {
        let b = self.batch();
        let all = LENGTHS.into_iter().flat_map(|l| MODELS.map(|(model, d)| Shape { model, b, l, d }));
        let mut all: Vec<Shape> = all.chain(MODELS.map(|(model, d)| Shape { model, b: 1, l: 208, d })).collect();
        if !self.full {
            all = vec![all[0], all[4], all[8]];
        }
        all
    }
}

/// Random tensors, each from a stream of its own. They are drawn at once, also while something is being recorded.
pub struct Fill<'a> {
    pub g: &'a Gpu,
    state: Tensor,
    stream: Cell<u32>,
}

impl<'a> Fill<'a> {
    pub fn new(g: &'a Gpu) -> Self {
        let state = StepState::tensor();
        StepState::new(1, 0.001, (0.9, 0.95), 7).write(g, &state).unwrap_or_else(|e| panic!("{e}"));
        Self { g, state, stream: Cell::new(0) }
    }

    /// Standard normal.
    pub fn normal(&self, shape: &[usize]) -> Result<Tensor> {
        self.draw(|stream| rng::normal(self.g, &self.state, stream, shape))
    }

    /// A leaf of standard normals.
    pub fn leaf(&self, shape: &[usize]) -> Result<Var> {
        self.normal(shape).map(Var::leaf)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&self, shape: &[usize]) -> Result<Tensor> {
        self.draw(|stream| rng::uniform(self.g, &self.state, stream, shape))
    }

    /// Random bits.
    pub fn words(&self, n: usize) -> Result<Tensor> {
        self.draw(|stream| rng::words(self.g, &self.state, stream, &[n]))
    }

    fn draw(&self, launch: impl FnOnce(u32) -> Result<Tensor>) -> Result<Tensor> {
        self.stream.set(self.stream.get() + 1);
        let (recording, tensor) = self.g.record(|| launch(self.stream.get()))?;
        Program::new(self.g, recording)?.run()?;
        Ok(tensor)
    }
}

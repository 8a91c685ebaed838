//! Random inputs, made on the device, and what they are called.

use std::cell::{Cell, RefCell};

use crate::error::Result;
use crate::gpu::Gpu;
use crate::ops::rng;
use crate::ops::step::StepState;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Where the samples of a batch lie in a tensor: what makes it possible to compare some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Along {
    /// One after the other along this axis.
    Axis(usize),
    /// Nowhere: a weight, a table, or a sum over the batch.
    Whole,
}

/// A tensor of a case.
#[derive(Debug, Clone)]
pub struct Named {
    /// As in the header of the shader.
    pub name: String,
    /// Where its samples lie.
    pub along: Along,
    /// The values.
    pub tensor: Tensor,
    /// The leaf, if a gradient flows to it.
    pub leaf: Option<Var>,
    /// u32 instead of f32.
    pub words: bool,
}

/// Random tensors, each from a stream of its own. They are drawn at once, also while something is being recorded.
#[derive(Debug)]
pub struct Fill<'a> {
    /// The device.
    pub g: &'a Gpu,
    state: Tensor,
    stream: Cell<u32>,
    inputs: RefCell<Vec<Named>>,
}

impl<'a> Fill<'a> {
    /// Streams from the start.
    pub fn new(g: &'a Gpu) -> Result<Self> {
        let state = StepState::tensor();
        StepState::new(1, 0.001, (0.9, 0.95), 7).write(g, &state)?;
        Ok(Self { g, state, stream: Cell::new(0), inputs: RefCell::default() })
    }

    /// What was drawn under a name, in order.
    pub fn into_inputs(self) -> Vec<Named> {
        self.inputs.into_inner()
    }

    /// A leaf of standard normals.
    pub fn leaf(&self, name: &str, along: Along, shape: &[usize]) -> Result<Var> {
        self.leaf_in(false, name, along, shape)
    }

    /// The same in f16 if `half`.
    pub fn leaf_in(&self, half: bool, name: &str, along: Along, shape: &[usize]) -> Result<Var> {
        let var = Var::leaf(self.draw(|r, stream| {
            let drawn = rng::normal(r, &self.state, stream, shape)?;
            if half { drawn.to_f16(r) } else { Ok(drawn) }
        })?);
        self.note(name, along, &var.data, Some(&var), false);
        Ok(var)
    }

    /// A constant of standard normals.
    pub fn normal(&self, name: &str, along: Along, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.unnamed_normal(shape)?;
        Ok(self.note(name, along, &tensor, None, false))
    }

    /// The same without a name, for what is no input of the operator.
    pub fn unnamed_normal(&self, shape: &[usize]) -> Result<Tensor> {
        self.draw(|r, stream| rng::normal(r, &self.state, stream, shape))
    }

    /// What may be the gradient of a result: as large, and stored as it is.
    pub fn gradient_of(&self, result: &Tensor) -> Result<Tensor> {
        self.draw(|r, stream| {
            let drawn = rng::normal(r, &self.state, stream, result.shape())?;
            if result.is_f16() { drawn.to_f16(r) } else { Ok(drawn) }
        })
    }

    /// A constant, uniform in [0, 1).
    pub fn uniform(&self, name: &str, along: Along, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.draw(|r, stream| rng::uniform(r, &self.state, stream, shape))?;
        Ok(self.note(name, along, &tensor, None, false))
    }

    /// Random bits.
    pub fn words(&self, name: &str, along: Along, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.draw(|r, stream| rng::words(r, &self.state, stream, shape))?;
        Ok(self.note(name, along, &tensor, None, true))
    }

    /// These values.
    pub fn values(&self, name: &str, along: Along, shape: &[usize], values: &[f32]) -> Result<Tensor> {
        let tensor = Tensor::from_slice(self.g, shape, values)?;
        Ok(self.note(name, along, &tensor, None, false))
    }

    /// These indices.
    pub fn table(&self, name: &str, along: Along, shape: &[usize], values: &[u32]) -> Result<Tensor> {
        let tensor = Tensor::from_indices(self.g, shape, values)?;
        Ok(self.note(name, along, &tensor, None, true))
    }

    fn note(&self, name: &str, along: Along, tensor: &Tensor, leaf: Option<&Var>, words: bool) -> Tensor {
        let named = Named { name: name.into(), along, tensor: tensor.clone(), leaf: leaf.cloned(), words };
        self.inputs.borrow_mut().push(named);
        tensor.clone()
    }

    fn draw(&self, launch: impl FnOnce(&mut Recorder, u32) -> Result<Tensor>) -> Result<Tensor> {
        self.stream.set(self.stream.get() + 1);
        let mut r = Recorder::inference(self.g);
        let tensor = launch(&mut r, self.stream.get())?;
        r.run()?;
        Ok(tensor)
    }
}

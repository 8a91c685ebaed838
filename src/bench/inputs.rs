//! Random inputs of a case, drawn on the device, and their names.

use std::cell::{Cell, Ref, RefCell};

use crate::error::Result;
use crate::gpu::{DType, Gpu};
use crate::ops::rng;
use crate::ops::scale::scale;
use crate::ops::step::StepState;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// The axis of a tensor along which the samples of the batch lie, so that a check can compare only some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Along {
    /// Samples lie along this axis.
    Axis(usize),
    /// The tensor has no axis of samples: a weight, a table, or a sum over the batch.
    Whole,
}

/// A named tensor of a case.
#[derive(Debug, Clone)]
pub struct Named {
    /// Name in the header of the operator's shader.
    pub name: String,
    /// Axis of its samples.
    pub along: Along,
    /// The values.
    pub tensor: Tensor,
    /// The variable, if the input gets a gradient.
    pub leaf: Option<Var>,
    /// Whether the elements are u32 instead of floats.
    pub words: bool,
}

/// Draws the inputs of a case, each from a random stream of its own. A draw runs at once, even while the case is being
/// recorded. On a device that only plans nothing is drawn, and inputs have no values.
#[derive(Debug)]
pub struct Fill<'a> {
    /// The device.
    pub g: &'a Gpu,
    state: Tensor,
    stream: Cell<u32>,
    inputs: RefCell<Vec<Named>>,
}

impl<'a> Fill<'a> {
    /// A source that begins with the first stream and has no inputs yet.
    pub fn new(g: &'a Gpu) -> Result<Self> {
        let state = StepState::tensor();
        StepState::new(1, 0.001, (0.9, 0.95), 7).write(g, &state)?;
        Ok(Self { g, state, stream: Cell::new(0), inputs: RefCell::default() })
    }

    /// The named inputs so far, in the order in which they were drawn.
    pub fn inputs(&self) -> Ref<'_, Vec<Named>> {
        self.inputs.borrow()
    }

    /// [`Fill::inputs`], all of them.
    pub fn into_inputs(self) -> Vec<Named> {
        self.inputs.into_inner()
    }

    /// A leaf of standard normal numbers, in f32.
    pub fn leaf(&self, name: &str, along: Along, shape: &[usize]) -> Result<Var> {
        self.leaf_in(false, name, along, shape)
    }

    /// A leaf of standard normal numbers, in f16 if `half`, else in f32.
    pub fn leaf_in(&self, half: bool, name: &str, along: Along, shape: &[usize]) -> Result<Var> {
        let var = Var::leaf(self.draw(|r, stream| {
            let drawn = rng::normal(r, &self.state, stream, shape)?;
            drawn.to_dtype(r, DType::f16_if(half))
        })?);
        self.note(name, along, &var.data, Some(&var), false);
        Ok(var)
    }

    /// A leaf of normal numbers with a deviation of 1/`over`: a weight, as layers are initialized.
    pub fn leaf_over(&self, name: &str, shape: &[usize], over: f32) -> Result<Var> {
        let var = Var::leaf(self.draw(|r, stream| {
            let drawn = rng::normal(r, &self.state, stream, shape)?;
            Ok(scale(r, &Var::constant(drawn), over.recip())?.data)
        })?);
        self.note(name, Along::Whole, &var.data, Some(&var), false);
        Ok(var)
    }

    /// A constant of standard normal numbers.
    pub fn normal(&self, name: &str, along: Along, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.unnamed_normal(shape)?;
        Ok(self.note(name, along, &tensor, None, false))
    }

    /// A tensor of standard normal numbers that is no input of the operator and so has no name.
    pub fn unnamed_normal(&self, shape: &[usize]) -> Result<Tensor> {
        self.draw(|r, stream| rng::normal(r, &self.state, stream, shape))
    }

    /// A random gradient for a result: normal numbers in its shape and element type.
    pub fn gradient_of(&self, result: &Tensor) -> Result<Tensor> {
        self.draw(|r, stream| {
            let drawn = rng::normal(r, &self.state, stream, result.shape())?;
            drawn.to_dtype(r, result.dtype())
        })
    }

    /// A constant of numbers uniform in [0, 1).
    pub fn uniform(&self, name: &str, along: Along, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.draw(|r, stream| rng::uniform(r, &self.state, stream, shape))?;
        Ok(self.note(name, along, &tensor, None, false))
    }

    /// A constant of random u32 words.
    pub fn words(&self, name: &str, along: Along, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.draw(|r, stream| rng::words(r, &self.state, stream, shape))?;
        Ok(self.note(name, along, &tensor, None, true))
    }

    /// A constant with these values.
    pub fn values(&self, name: &str, along: Along, shape: &[usize], values: &[f32]) -> Result<Tensor> {
        let tensor = Tensor::from_slice(self.g, shape, values)?;
        Ok(self.note(name, along, &tensor, None, false))
    }

    /// A constant with these u32 indices.
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
        if !self.g.is_dry() {
            r.run()?;
        }
        Ok(tensor)
    }
}

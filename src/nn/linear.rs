//! Linear layers.

use std::sync::Arc;

use super::init::Init;
use super::params::Params;
use crate::error::Result;
use crate::ops;
use crate::ops::mlp::Layer;
use crate::tape::{Recorder, Var};

/// y = x·Wᵀ + b: PyTorch's `nn.Linear`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// (out, in)
    pub weight: Var,
    /// (out)
    pub bias: Option<Var>,
    /// Its name in a checkpoint, for the scope of its launches.
    pub name: Arc<str>,
}

impl Linear {
    /// Parameters `name.weight` (out, in) and `name.bias` (out). The bias starts at zero.
    pub fn new(params: &mut Params, name: &str, inputs: usize, outputs: usize, init: Init) -> Result<Self> {
        params.scope(name, |p| {
            let bias = p.add("bias", &[outputs], &[outputs], Init::Zeros)?;
            Ok(Self { bias: Some(bias), ..Self::weight_only(p, inputs, outputs, init)? })
        })
    }

    /// Parameter `name.weight` (out, in) only: `nn.Linear(…, bias=False)`.
    pub fn no_bias(params: &mut Params, name: &str, inputs: usize, outputs: usize, init: Init) -> Result<Self> {
        params.scope(name, |p| Self::weight_only(p, inputs, outputs, init))
    }

    fn weight_only(params: &mut Params, inputs: usize, outputs: usize, init: Init) -> Result<Self> {
        let shape = [outputs, inputs];
        Ok(Self { weight: params.add("weight", &shape, &shape, init)?, bias: None, name: params.path() })
    }

    /// Weight and bias as an operand of [`ops::mlp`].
    pub fn layer(&self) -> Layer<'_> {
        Layer { w: &self.weight, bias: self.bias.as_ref() }
    }

    /// x (.., in) → (.., out)
    pub fn forward(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        ops::matmul::matmul(r, x, &self.weight, self.bias.as_ref(), None)
    }

    /// x (.., in) → (.., out), stored as f16 for an operator that reads f16.
    pub fn forward_half(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        ops::matmul::matmul_half(r, x, &self.weight, self.bias.as_ref())
    }

    /// x (.., in) → (.., out), plus `residual` (.., out): the product and the addition in one launch.
    pub fn forward_onto(&self, r: &mut Recorder, x: &Var, residual: &Var) -> Result<Var> {
        ops::matmul::matmul(r, x, &self.weight, self.bias.as_ref(), Some(residual))
    }
}

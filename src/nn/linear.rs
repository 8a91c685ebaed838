//! Linear layers.

use super::init::Init;
use super::params::Params;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::ops;
use crate::ops::mlp::Layer;
use crate::tape::{Tape, Var};

/// y = x·Wᵀ + b.
#[derive(Debug, Clone)]
pub struct Linear {
    /// (out, in)
    pub weight: Var,
    /// (out)
    pub bias: Option<Var>,
}

impl Linear {
    /// `name.weight` (out, in) and `name.bias` (out, starts at zero).
    pub fn new(params: &mut Params, name: &str, inputs: usize, outputs: usize, init: Init) -> Result<Self> {
        let bias = params.add(format!("{name}.bias"), &[outputs], &[outputs], Init::Zeros)?;
        Ok(Self { bias: Some(bias), ..Self::no_bias(params, name, inputs, outputs, init)? })
    }

    /// `name.weight` (out, in) only.
    pub fn no_bias(params: &mut Params, name: &str, inputs: usize, outputs: usize, init: Init) -> Result<Self> {
        let shape = [outputs, inputs];
        Ok(Self { weight: params.add(format!("{name}.weight"), &shape, &shape, init)?, bias: None })
    }

    /// As an operand of [`ops::mlp`].
    pub fn layer(&self) -> Layer<'_> {
        Layer { w: &self.weight, bias: self.bias.as_ref() }
    }

    /// (.., in) → (.., out)
    pub fn forward(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        ops::matmul::matmul(g, t, x, &self.weight, self.bias.as_ref(), None)
    }

    /// (.., in) → (.., out) in f16, for operators that take it so
    pub fn forward_half(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        ops::matmul::matmul_half(g, t, x, &self.weight, self.bias.as_ref())
    }

    /// (.., in) → (.., out), plus `residual` (.., out)
    pub fn forward_onto(&self, g: &Gpu, t: &mut Tape, x: &Var, residual: &Var) -> Result<Var> {
        ops::matmul::matmul(g, t, x, &self.weight, self.bias.as_ref(), Some(residual))
    }
}

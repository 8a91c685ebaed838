//! Linear layers.

use std::sync::Arc;

use super::init::Init;
use super::params::Params;
use crate::error::Result;
use crate::gpu::DType;
use crate::ops::matmul::{MatmulOptions, matmul};
use crate::ops::mlp::MlpLayer;
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

    /// A 1×1 convolution over `axes` axes of a map or of a sequence: parameters `name.weight` (out, in, 1, ..) and
    /// `name.bias` (out). PyTorch's `nn.Conv1d(in, out, 1)` for one axis, with channels last.
    pub fn pointwise(
        params: &mut Params, name: &str, (inputs, outputs): (usize, usize), axes: usize, init: Init,
    ) -> Result<Self> {
        let shape = [&[outputs, inputs][..], &vec![1; axes]].concat();
        params.scope(name, |p| {
            let weight = p.add("weight", &shape, &[outputs, inputs], init)?;
            Ok(Self { weight, bias: Some(p.add("bias", &[outputs], &[outputs], Init::Zeros)?), name: p.path() })
        })
    }

    /// Weight and bias as an operand of [`mlp`](crate::ops::mlp).
    pub fn layer(&self) -> MlpLayer<'_> {
        MlpLayer { w: &self.weight, bias: self.bias.as_ref() }
    }

    /// The layer in front of a batch norm that takes the statistics of its batch: it takes every bias out again, so
    /// that the bias's gradient is exactly 0, and none is computed. Sums of rounded numbers would leave noise in its
    /// place.
    pub fn before_batch_norm(&self) -> Self {
        Self { bias: self.bias.as_ref().map(|bias| Var::constant(bias.data.clone())), ..self.clone() }
    }

    /// x (.., in) → (.., out)
    pub fn forward(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        self.product(r, x, MatmulOptions::default())
    }

    /// x (.., in) → (.., out), stored as `dtype` for an operator that reads it.
    pub fn forward_as(&self, r: &mut Recorder, x: &Var, dtype: DType) -> Result<Var> {
        self.product(r, x, MatmulOptions { dtype, ..MatmulOptions::default() })
    }

    /// x (.., in) → (.., out), plus `residual` (.., out): the product and the addition in one launch.
    pub fn forward_onto(&self, r: &mut Recorder, x: &Var, residual: &Var) -> Result<Var> {
        self.product(r, x, MatmulOptions { residual: Some(residual), ..MatmulOptions::default() })
    }

    fn product(&self, r: &mut Recorder, x: &Var, options: MatmulOptions<'_>) -> Result<Var> {
        matmul(r, x, &self.weight, MatmulOptions { bias: self.bias.as_ref(), ..options })
    }
}

//! Normalization layers.

use std::sync::Arc;

use super::init::Init;
use super::params::Params;
use crate::error::Result;
use crate::gpu::Precision;
use crate::ops;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Whether the norm of x is stored as f16: in mixed precision, where its width is a multiple of 4, which matrix
/// products need to read f16.
fn stores_half(r: &mut Recorder, x: &Var) -> bool {
    r.precision() == Precision::Mixed && x.data.rows_cols().1.is_multiple_of(4)
}

/// x·rsqrt(mean(x²) + eps)·w: PyTorch's `nn.RMSNorm`.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Var,
    eps: f32,
    name: Arc<str>,
}

impl RmsNorm {
    /// Parameter `name.weight` (width), ones.
    pub fn new(params: &mut Params, name: &str, width: usize, eps: f32) -> Result<Self> {
        params
            .scope(name, |p| Ok(Self { weight: p.add("weight", &[width], &[width], Init::Ones)?, eps, name: p.path() }))
    }
}

/// (x − mean)·rsqrt(var + eps)·w + b: PyTorch's `nn.LayerNorm`.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Var,
    bias: Var,
    eps: f32,
    /// Its name in a checkpoint, for the scope of its launches.
    pub name: Arc<str>,
}

impl LayerNorm {
    /// Parameters `name.weight` (width), ones, and `name.bias` (width), zeros.
    pub fn new(params: &mut Params, name: &str, width: usize, eps: f32) -> Result<Self> {
        params.scope(name, |p| {
            let weight = p.add("weight", &[width], &[width], Init::Ones)?;
            Ok(Self { weight, bias: p.add("bias", &[width], &[width], Init::Zeros)?, eps, name: p.path() })
        })
    }

    /// x (.., width) → (.., width)
    pub fn forward(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        Ok(ops::layer_norm::layer_norm(r, x, None, None, &self.weight, &self.bias, self.eps)?.0)
    }

    /// [`LayerNorm::forward`] for a matrix product to read: stored as f16 in mixed precision.
    pub fn operand(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        let norm = if stores_half(r, x) { ops::layer_norm::layer_norm_half } else { ops::layer_norm::layer_norm };
        Ok(norm(r, x, None, None, &self.weight, &self.bias, self.eps)?.0)
    }
}

/// The norm in front of a Mamba layer, fused with the residual addition: mamba-ssm's `fused_add_norm`. It is an RMS
/// norm, or a layer norm in some Mamba-R variants.
#[derive(Debug, Clone)]
pub enum ResidualNorm {
    /// Has `name.weight`.
    Rms(RmsNorm),
    /// Has `name.weight` and `name.bias`.
    Layer(LayerNorm),
}

impl ResidualNorm {
    /// An RMS norm if `rms`, else a layer norm.
    pub fn new(params: &mut Params, name: &str, width: usize, eps: f32, rms: bool) -> Result<Self> {
        Ok(match rms {
            true => Self::Rms(RmsNorm::new(params, name, width, eps)?),
            false => Self::Layer(LayerNorm::new(params, name, width, eps)?),
        })
    }

    /// Its name in a checkpoint, for the scope of its launches.
    pub fn name(&self) -> &str {
        match self {
            Self::Rms(norm) => &norm.name,
            Self::Layer(norm) => &norm.name,
        }
    }

    /// x (B, L, width) → (norm(sum), sum), both (B, L, width), where sum = residual + drop_path·x. `drop_path` (B) has
    /// one factor for each image: 0 where the branch x is dropped, else 1/(1 − rate).
    pub fn add(
        &self, r: &mut Recorder, x: &Var, residual: Option<&Var>, drop_path: Option<&Tensor>,
    ) -> Result<(Var, Var)> {
        match self {
            Self::Rms(norm) => ops::rms_norm::rms_norm(r, x, residual, drop_path, &norm.weight, norm.eps),
            Self::Layer(norm) => {
                ops::layer_norm::layer_norm(r, x, residual, drop_path, &norm.weight, &norm.bias, norm.eps)
            }
        }
    }

    /// [`ResidualNorm::add`] whose norm a matrix product reads: stored as f16 in mixed precision. The sum stays f32.
    pub fn add_operand(
        &self, r: &mut Recorder, x: &Var, residual: Option<&Var>, drop_path: Option<&Tensor>,
    ) -> Result<(Var, Var)> {
        if !stores_half(r, x) {
            return self.add(r, x, residual, drop_path);
        }
        match self {
            Self::Rms(norm) => ops::rms_norm::rms_norm_half(r, x, residual, drop_path, &norm.weight, norm.eps),
            Self::Layer(norm) => {
                ops::layer_norm::layer_norm_half(r, x, residual, drop_path, &norm.weight, &norm.bias, norm.eps)
            }
        }
    }
}

//! Normalization layers.

use super::init::Init;
use super::params::Params;
use crate::error::Result;
use crate::gpu::{Gpu, Precision};
use crate::ops;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// Whether products take as many columns as x has in f16.
fn stores_half(g: &Gpu, x: &Var) -> bool {
    g.precision() == Precision::Mixed && x.data.rows_cols().1.is_multiple_of(4)
}

/// x·rsqrt(mean(x²) + eps)·w.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Var,
    eps: f32,
}

impl RmsNorm {
    /// `name.weight` (width), ones.
    pub fn new(params: &mut Params, name: &str, width: usize, eps: f32) -> Result<Self> {
        Ok(Self { weight: params.add(format!("{name}.weight"), &[width], &[width], Init::Ones)?, eps })
    }
}

/// (x − mean)·rsqrt(var + eps)·w + b.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Var,
    bias: Var,
    eps: f32,
}

impl LayerNorm {
    /// `name.weight` (width), ones, and `name.bias` (width), zeros.
    pub fn new(params: &mut Params, name: &str, width: usize, eps: f32) -> Result<Self> {
        let weight = params.add(format!("{name}.weight"), &[width], &[width], Init::Ones)?;
        Ok(Self { weight, bias: params.add(format!("{name}.bias"), &[width], &[width], Init::Zeros)?, eps })
    }

    /// (.., width) → (.., width)
    pub fn forward(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        Ok(ops::layer_norm::layer_norm(g, t, x, None, None, &self.weight, &self.bias, self.eps)?.0)
    }

    /// The same for products to read, which in mixed precision take it in f16.
    pub fn operand(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        let norm = if stores_half(g, x) { ops::layer_norm::layer_norm_half } else { ops::layer_norm::layer_norm };
        Ok(norm(g, t, x, None, None, &self.weight, &self.bias, self.eps)?.0)
    }
}

/// The norm in front of a Mamba layer, with the residual add: RMS norm, or layer norm in some Mamba-R variants.
#[derive(Debug, Clone)]
pub enum ResidualNorm {
    /// `name.weight`.
    Rms(RmsNorm),
    /// `name.weight` and `name.bias`.
    Layer(LayerNorm),
}

impl ResidualNorm {
    /// One or the other.
    pub fn new(params: &mut Params, name: &str, width: usize, eps: f32, rms: bool) -> Result<Self> {
        Ok(match rms {
            true => Self::Rms(RmsNorm::new(params, name, width, eps)?),
            false => Self::Layer(LayerNorm::new(params, name, width, eps)?),
        })
    }

    /// (norm(r'), r') with r' = residual + drop_path·x. `drop_path` (B) is DropPath's draw over its probability.
    pub fn add(
        &self, g: &Gpu, t: &mut Tape, x: &Var, residual: Option<&Var>, drop_path: Option<&Tensor>,
    ) -> Result<(Var, Var)> {
        match self {
            Self::Rms(norm) => ops::rms_norm::rms_norm(g, t, x, residual, drop_path, &norm.weight, norm.eps),
            Self::Layer(norm) => {
                ops::layer_norm::layer_norm(g, t, x, residual, drop_path, &norm.weight, &norm.bias, norm.eps)
            }
        }
    }

    /// The same with a norm for products to read, which in mixed precision take it in f16.
    pub fn add_operand(
        &self, g: &Gpu, t: &mut Tape, x: &Var, residual: Option<&Var>, drop_path: Option<&Tensor>,
    ) -> Result<(Var, Var)> {
        if !stores_half(g, x) {
            return self.add(g, t, x, residual, drop_path);
        }
        match self {
            Self::Rms(norm) => ops::rms_norm::rms_norm_half(g, t, x, residual, drop_path, &norm.weight, norm.eps),
            Self::Layer(norm) => {
                ops::layer_norm::layer_norm_half(g, t, x, residual, drop_path, &norm.weight, &norm.bias, norm.eps)
            }
        }
    }
}

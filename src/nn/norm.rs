//! Normalization layers.

use std::sync::Arc;

use super::init::Init;
use super::params::{Params, Running};
use super::stored::stored;
use crate::error::Result;
use crate::gpu::DType;
use crate::ops::batch_norm::{BatchNormAct, BatchNormOptions, BatchStatistics, batch_norm};
use crate::ops::norm::{NormOptions, layer_norm, rms_norm};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

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
        self.forward_as(r, x, DType::F32)
    }

    /// [`LayerNorm::forward`] for a matrix product to read: stored as mixed precision stores operands.
    pub fn operand(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        let dtype = stored(r, x.data.rows_cols().1);
        self.forward_as(r, x, dtype)
    }

    fn forward_as(&self, r: &mut Recorder, x: &Var, dtype: DType) -> Result<Var> {
        let options = NormOptions { dtype, ..NormOptions::eps(self.eps) };
        Ok(layer_norm(r, x, &self.weight, &self.bias, options)?.0)
    }
}

/// Settings of a [`BatchNorm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormConfig {
    /// Added to the variance, inside the root.
    pub eps: f32,
    /// Share of a batch in the running statistics.
    pub momentum: f64,
}

impl Default for BatchNormConfig {
    /// PyTorch's: 1e-5 and 0.1.
    fn default() -> Self {
        Self { eps: 1e-5, momentum: 0.1 }
    }
}

/// Batch norm with running statistics: PyTorch's `nn.BatchNorm2d`, for maps whose channels come last. The running
/// statistics are buffers: saved, loaded and averaged with the weights, but not trained.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    weight: Var,
    bias: Var,
    mean: Running,
    var: Running,
    config: BatchNormConfig,
    /// Its name in a checkpoint, for the scope of its launches.
    pub name: Arc<str>,
}

impl BatchNorm {
    /// Parameters `name.weight` (width), ones, and `name.bias` (width), zeros; buffers `name.running_mean` (width),
    /// zeros, and `name.running_var` (width), ones.
    pub fn new(params: &mut Params, name: &str, width: usize, config: BatchNormConfig) -> Result<Self> {
        Self::starting_at(params, name, width, config, Init::Ones)
    }

    /// [`BatchNorm::new`] whose weight starts at `init`: zeros for the last norm of a residual branch.
    pub fn starting_at(
        params: &mut Params, name: &str, width: usize, config: BatchNormConfig, init: Init,
    ) -> Result<Self> {
        params.scope(name, |p| {
            Ok(Self {
                weight: p.add("weight", &[width], &[width], init)?,
                bias: p.add("bias", &[width], &[width], Init::Zeros)?,
                mean: p.running("running_mean", &[width], Init::Zeros, config.momentum)?,
                var: p.running("running_var", &[width], Init::Ones, config.momentum)?,
                config,
                name: p.path(),
            })
        })
    }

    /// x (.., width) → (.., width). In training ([`Recorder::is_training`]) it takes the statistics of the batch, and
    /// the running ones follow them; if the recorder [observes](Recorder::observes) they do so later. In evaluation it
    /// takes the running ones.
    pub fn forward(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        self.forward_act(r, x, BatchNormAct::None)
    }

    /// [`BatchNorm::forward`] and an activation behind it, in one launch.
    pub fn forward_act(&self, r: &mut Recorder, x: &Var, act: BatchNormAct) -> Result<Var> {
        let running = [&self.mean.value, &self.var.value];
        let statistics = match (r.is_training(), r.observes()) {
            (true, false) => BatchStatistics::Batch { running: Some(running), momentum: self.config.momentum },
            // all of the batch and nothing of what was there: its own statistics
            (true, true) => BatchStatistics::Batch { running: Some([&self.mean.seen, &self.var.seen]), momentum: 1.0 },
            (false, _) => BatchStatistics::Given(running),
        };
        batch_norm(r, x, &self.weight, &self.bias, BatchNormOptions { statistics, eps: self.config.eps, act })
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
        self.add_as(r, x, residual, drop_path, DType::F32)
    }

    /// [`ResidualNorm::add`] whose norm a matrix product reads: stored as mixed precision stores operands. The sum
    /// stays f32.
    pub fn add_operand(
        &self, r: &mut Recorder, x: &Var, residual: Option<&Var>, drop_path: Option<&Tensor>,
    ) -> Result<(Var, Var)> {
        let dtype = stored(r, x.data.rows_cols().1);
        self.add_as(r, x, residual, drop_path, dtype)
    }

    fn add_as(
        &self, r: &mut Recorder, x: &Var, residual: Option<&Var>, drop_path: Option<&Tensor>, dtype: DType,
    ) -> Result<(Var, Var)> {
        let options = |eps: f32| NormOptions { eps, residual, drop_path, dtype };
        match self {
            Self::Rms(norm) => rms_norm(r, x, &norm.weight, options(norm.eps)),
            Self::Layer(norm) => layer_norm(r, x, &norm.weight, &norm.bias, options(norm.eps)),
        }
    }
}

//! Dynamic loss scaling of a run whose products are made of f16: its state on the GPU, in checkpoints and in logs.

use crate::error::Result;
use crate::gpu::{Gpu, Precision};
use crate::nn::{Init, Params};
use crate::ops::loss_scale;
use crate::tensor::Tensor;

/// The file of a checkpoint that keeps it.
const FILE: &str = "loss_scale.safetensors";

/// Halvings of the scale after which gradients overflow however small they are: 2^-14 is left of 2^16.
const HOPELESS: f32 = -30.0;

/// The state of [`loss_scale`].
#[derive(Debug)]
pub struct LossScaler {
    params: Params,
    state: Tensor,
}

/// What a run logs of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// The factor on the loss from the next step on.
    pub scale: f64,
    /// Steps that were not taken since the run began.
    pub skipped: u64,
    /// Whether gradients overflow whatever the scale is.
    pub hopeless: bool,
}

impl LossScaler {
    /// A scaler at its start if products in this precision need one.
    pub fn of(g: &Gpu, precision: Precision) -> Result<Option<Self>> {
        if precision == Precision::F32 {
            return Ok(None);
        }
        let mut params = Params::new(g);
        let state = params.add("state", &[loss_scale::STATE], &[loss_scale::STATE], Init::Zeros)?.data;
        if !g.is_dry() {
            params.init(g, 0)?;
        }
        Ok(Some(Self { params, state }))
    }

    /// The tensor that kernels read and write.
    pub fn state(&self) -> &Tensor {
        &self.state
    }

    /// What a checkpoint keeps, by its file.
    pub fn companion(&self) -> (&'static str, &Params) {
        (FILE, &self.params)
    }
}

impl Scaling {
    /// From the bytes of the state.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let numbers: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
        let [level, _, skipped, ..] = numbers[..] else {
            return Self { scale: f64::NAN, skipped: 0, hopeless: false };
        };
        Self { scale: 2f64.powf(16.0 + f64::from(level)), skipped: skipped as u64, hopeless: level <= HOPELESS }
    }
}

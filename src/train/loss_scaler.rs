//! Dynamic loss scaling for f16 products, as `torch.amp.GradScaler`: its state on the GPU, in checkpoints and in logs.

use crate::error::Result;
use crate::gpu::{Gpu, Precision};
use crate::nn::{Init, Params};
use crate::ops::loss_scale;
use crate::tensor::Tensor;

/// The checkpoint file of the scaler's state.
const FILE: &str = "loss_scale.safetensors";

/// Halvings of the scale after which a run is given up. The scale starts at 2^16; where gradients still overflow at
/// 2^-14, no scale helps.
const HOPELESS: f32 = -30.0;

/// The loss scaler: the state of [`loss_scale`] on the GPU.
#[derive(Debug)]
pub struct LossScaler {
    params: Params,
    state: Tensor,
}

/// The scaler's state, as read back for the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// Factor on the loss from the next step on.
    pub scale: f64,
    /// Skipped steps since the run began: those whose gradients overflowed.
    pub skipped: u64,
    /// Whether gradients overflow at every scale, so that the run has to stop.
    pub hopeless: bool,
}

impl LossScaler {
    /// A scaler with its initial scale; `None` for a precision whose products are not of f16.
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

    /// The state as a set of weights, with the name of its checkpoint file.
    pub fn companion(&self) -> (&'static str, &Params) {
        (FILE, &self.params)
    }
}

impl Scaling {
    /// Decodes the bytes of the state tensor.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let numbers: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
        let [level, _, skipped, ..] = numbers[..] else {
            return Self { scale: f64::NAN, skipped: 0, hopeless: false };
        };
        Self { scale: 2f64.powf(16.0 + f64::from(level)), skipped: skipped as u64, hopeless: level <= HOPELESS }
    }
}

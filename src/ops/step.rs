//! step: the numbers that change from one training step to the next. They are in one small buffer, so that a recorded
//! program can be replayed unchanged. The WGSL side is `shaders/lib/step.wgsl`.

use crate::error::Result;
use crate::gpu::{Gpu, params};
use crate::tensor::Tensor;

params! {
    /// The numbers of one training step.
    pub struct StepState {
        /// Learning rate.
        lr: f32,
        /// 1 − β₁^step of AdamW.
        bias_correction1: f32,
        /// 1 − β₂^step of AdamW.
        bias_correction2: f32,
        /// Low half of the seed of all draws.
        seed_lo: u32,
        /// High half of the seed.
        seed_hi: u32,
        /// Number of the step, from 1.
        step: u32,
        /// Number of the micro-batch within the step, from 0.
        part: u32,
    }
}

impl StepState {
    /// Number of the values.
    pub const LEN: usize = size_of::<Self>() / 4;

    /// The numbers of step `step`, counted from 1, for AdamW with `betas`, without loss scaling.
    pub fn new(step: u32, lr: f32, betas: (f64, f64), seed: u64) -> Self {
        let correction = |beta: f64| (1.0 - beta.powf(step.into())) as f32;
        Self {
            lr,
            bias_correction1: correction(betas.0),
            bias_correction2: correction(betas.1),
            seed_lo: seed as u32,
            seed_hi: (seed >> 32) as u32,
            step,
            part: 0,
        }
    }

    /// A tensor for the numbers, which kernels read: the `state` of operators.
    pub fn tensor() -> Tensor {
        Tensor::input("step state", &[Self::LEN])
    }

    /// Uploads the numbers to `state`. Programs that were run before have seen the old ones.
    pub fn write(&self, g: &Gpu, state: &Tensor) -> Result<()> {
        state.expect_shape("step: state", &[Self::LEN])?;
        state.write(g, std::slice::from_ref(self))
    }
}

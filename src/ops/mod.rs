//! Operators: one file per family, launcher and tape rule. Shapes and maths are in `shaders/<family>.wgsl`.
//! How to add one: `src/ops/README.md`.

pub mod activation;
pub mod cross_entropy;
pub mod layer_norm;
pub mod mse_norm;
pub mod rms_norm;

use crate::gpu::Kernel;

/// Every kernel of every family, for the tests that compare shaders with their Rust side.
pub fn all() -> Vec<&'static Kernel> {
    [
        activation::KERNELS, //
        cross_entropy::KERNELS,
        layer_norm::KERNELS,
        mse_norm::KERNELS,
        rms_norm::KERNELS,
    ]
    .concat()
}

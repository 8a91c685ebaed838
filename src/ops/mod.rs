//! Operators: one file per family, launcher and tape rule. Shapes and maths are in `shaders/<family>.wgsl`.
//! How to add one: `src/ops/README.md`.

pub mod activation;
pub mod add;
pub mod matmul;
pub mod reduce;
pub mod scale;

use crate::gpu::Kernel;

/// Every kernel of every family, for the tests that compare shaders with their Rust side.
pub fn all() -> Vec<&'static Kernel> {
    [activation::KERNELS, add::KERNELS, matmul::KERNELS, reduce::KERNELS, scale::KERNELS].concat()
}

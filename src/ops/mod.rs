//! Operators: one file per family, launcher and tape rule. Shapes and maths are in `shaders/<family>.wgsl`.
//! How to add one: `src/ops/README.md`.

pub mod activation;
pub mod add;
pub mod conv1d;
pub mod matmul;
pub mod reduce;
pub mod scale;
pub mod selective_scan;
pub mod ssm;

use crate::gpu::Kernel;

/// Every kernel of every family, for the tests that compare shaders with their Rust side.
pub fn all() -> Vec<&'static Kernel> {
    [
        activation::KERNELS,
        add::KERNELS,
        conv1d::KERNELS,
        matmul::KERNELS,
        reduce::KERNELS,
        scale::KERNELS,
        selective_scan::KERNELS,
    ]
    .concat()
}

//! Operators: one file per family, launcher and tape rule. Shapes and maths are in `shaders/<family>.wgsl`.
//! How to add one: `src/ops/README.md`.

pub mod activation;
pub mod adamw;
pub mod add;
pub mod attention;
pub mod concat;
pub mod conv1d;
pub mod cross_entropy;
pub mod diffusion;
pub mod ema;
pub mod info_nce;
pub mod l2_norm;
pub mod loss_scale;
pub mod matmul;
pub mod mlp;
pub mod modulate;
pub mod mse_norm;
pub mod norm;
pub mod patchify;
pub mod reduce;
pub mod registers;
pub mod reshape;
pub mod rng;
pub mod scale;
pub mod selective_scan;
pub mod ssm;
pub mod step;
pub mod tokens;

use crate::gpu::Kernel;

/// Every kernel of every family, for the tests that compare shaders with their Rust side.
pub fn all() -> Vec<&'static Kernel> {
    [
        activation::KERNELS,
        adamw::KERNELS,
        add::KERNELS,
        attention::KERNELS,
        concat::KERNELS,
        conv1d::KERNELS,
        cross_entropy::KERNELS,
        diffusion::KERNELS,
        ema::KERNELS,
        info_nce::KERNELS,
        l2_norm::KERNELS,
        loss_scale::KERNELS,
        matmul::KERNELS,
        modulate::KERNELS,
        mse_norm::KERNELS,
        norm::KERNELS,
        patchify::KERNELS,
        reduce::KERNELS,
        registers::KERNELS,
        rng::KERNELS,
        scale::KERNELS,
        selective_scan::KERNELS,
        tokens::KERNELS,
    ]
    .concat()
}

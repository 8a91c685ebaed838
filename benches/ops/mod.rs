//! One file per family: `validate` compares it with the oracle at a small size, `bench` times it at the models' sizes.
//! Each floor is what the header of the shader says.

mod activation;
mod adamw;
mod add;
mod attention;
mod conv1d;
mod cross_entropy;
mod ema;
mod layer_norm;
mod matmul;
mod mse_norm;
mod patchify;
mod reduce;
mod registers;
mod rms_norm;
mod rng;
mod scale;
mod selective_scan;
mod tokens;

pub use rowscan::gpu::Gpu;
pub use rowscan::tape::Var;
pub use rowscan::tensor::Tensor;
pub use rowscan::{Result, ops};

pub use crate::common::Bench;
pub use crate::oracle::{Random, Tol, close, leaf, run, wide};
pub use crate::roof::Floor;

/// Every family.
pub const ALL: &[fn(&mut Bench)] = &[
    activation::bench,
    adamw::bench,
    add::bench,
    attention::bench,
    conv1d::bench,
    cross_entropy::bench,
    ema::bench,
    layer_norm::bench,
    matmul::bench,
    mse_norm::bench,
    patchify::bench,
    reduce::bench,
    registers::bench,
    rms_norm::bench,
    rng::bench,
    scale::bench,
    selective_scan::bench,
    tokens::bench,
];

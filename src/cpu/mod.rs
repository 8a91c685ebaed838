//! The CPU oracle: a second implementation of every operator, forward and backward, in plain Rust and f64. Tests
//! compare the shaders with it. It imports only the standard library, so that it shares no bug with the GPU side.
//!
//! Arguments are flat, contiguous, row-major `f64` slices in one order: [`Dims`](matmul::Dims), inputs, saved values,
//! gradients of the outputs. Backward returns new gradients and accumulates into none.
pub mod activation;
pub mod adamw;
pub mod add;
pub mod attention;
pub mod batch_norm;
pub mod box_refine;
pub mod chamfer;
pub mod channel_gate;
pub mod concat;
pub mod conv1d;
pub mod conv2d;
pub mod cross_entropy;
pub mod diffusion;
pub mod dropout;
pub mod ema;
pub mod hide;
pub mod info_nce;
pub mod l2_norm;
pub mod layer_scale;
pub mod local_norm_pool;
pub mod loss_scale;
pub mod masked_loss;
pub mod matmul;
pub mod max_concat;
pub mod mlp;
pub mod modulate;
pub mod mse_norm;
pub mod neighbors;
pub mod norm;
pub mod parts;
pub mod patchify;
pub mod pick;
pub mod pixel_loss;
pub mod pool;
pub mod reduce;
pub mod registers;
pub mod resample;
pub mod rng;
pub mod roi_align;
pub mod scale;
pub mod selective_scan;
pub mod ss2d;
pub mod ssm;
pub mod swiglu;
pub mod tokens;
pub mod upsample;

#[cfg(test)]
mod gradcheck;

//! GPU against oracle, forward and every gradient, both tiers, in mid-graph position.

mod activation;
mod adamw;
mod add;
mod attention;
mod concat;
mod conv1d;
mod cross_entropy;
mod diffusion;
mod ema;
mod info_nce;
mod l2_norm;
mod loss_scale;
mod matmul;
mod mlp;
mod modulate;
mod mse_norm;
mod norm;
mod patchify;
mod reduce;
mod registers;
mod reshape;
mod rng;
mod scale;
mod selective_scan;
mod ssm;
mod tokens;

use rowscan::Result;
use rowscan::gpu::Gpu;
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

/// Runs what `body` records, and gives what it returned.
#[track_caller]
fn at_once<T>(g: &Gpu, body: impl FnOnce(&mut Recorder) -> Result<T>) -> T {
    let mut r = Recorder::new(g);
    let made = body(&mut r).and_then(|made| r.run().map(|()| made));
    made.unwrap_or_else(|e| panic!("{e}"))
}

/// The values of the tensor that `body` records.
#[track_caller]
fn values(g: &Gpu, body: impl FnOnce(&mut Recorder) -> Result<Tensor>) -> Vec<f32> {
    at_once(g, body).to_vec(g).unwrap_or_else(|e| panic!("{e}"))
}

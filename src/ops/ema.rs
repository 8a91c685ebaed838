//! ema: launcher of running averages and sums over flat arrays. Maths: `shaders/ema.wgsl`.

use crate::error::Result;
use crate::gpu::{Grid, Kernel, params, read, update, wgsl};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `ema.wgsl`.
    pub struct Ema { n: u32 }
}

const UPDATE: Kernel =
    Kernel::new::<Ema>("ema.update", wgsl!("ema", "grid"), &[read(1, "x"), read(2, "factors"), update(3, "average")]);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&UPDATE];

/// Launches `average` ← keep·`average` + take·`x` for any shape; `factors` (2) holds keep and take.
pub fn ema(r: &mut Recorder, average: &Tensor, x: &Tensor, factors: &Tensor) -> Result<()> {
    x.expect_shape("ema: x", average.shape())?;
    factors.expect_shape("ema: factors", &[2])?;
    let p = Ema { n: average.len() as u32 };
    r.launch(&UPDATE, Grid::items(average.len(), 256), &p, &[x, factors, average])
}

/// The factors of an exponential moving average with momentum `m`: m and 1 − m, each rounded once.
pub fn momentum(m: f64) -> [f32; 2] {
    [m as f32, (1.0 - m) as f32]
}

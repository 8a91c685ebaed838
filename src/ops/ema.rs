//! ema: moving averages of weights, and running sums. Maths: `shaders/ema.wgsl`.

use crate::error::Result;
use crate::gpu::{Grid, Kernel, params, read, scalars, update, wgsl};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `ema.wgsl`.
    pub(crate) struct Ema { n: u32 }
}

const UPDATE: Kernel =
    Kernel::new::<Ema>("ema.update", wgsl!("ema", "grid"), &[read(1, "x"), read(2, "factors"), update(3, "average")]);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&UPDATE];

/// Updates `average` in place: `average` ← keep·`average` + take·x.
///
/// `factors` holds keep and take. They are in a buffer, so that a replayed program can use other values.
///
/// - Shapes: `average` and x, any one shape; `factors` (2).
/// - PyTorch: `average.mul_(keep).add_(x, alpha=take)`. timm's `ModelEma` and MoCo's momentum encoder do this.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::ema::{ema, momentum}, tape::*, tensor::Tensor};
/// let average = Tensor::from_slice(g, &[2], &[4.0, 8.0])?;
/// let x = Tensor::from_slice(g, &[2], &[0.0, 12.0])?;
/// let factors = Tensor::from_slice(g, &[2], &momentum(0.75))?;
/// let mut r = Recorder::inference(g);
/// ema(&mut r, &average, &x, &factors)?;
/// r.run()?;
/// assert_eq!(average.to_vec(g)?, [3.0, 9.0]); // 0.75·average + 0.25·x
/// # Ok(()) });
/// ```
pub fn ema(r: &mut Recorder, average: &Tensor, x: &Tensor, factors: &Tensor) -> Result<()> {
    x.expect_shape("ema: x", average.shape())?;
    factors.expect_shape("ema: factors", &[2])?;
    let p = scalars!(Ema { n: average.len() });
    r.launch(&UPDATE, Grid::items(average.len(), 256), &p, &[x, factors, average])
}

/// The `factors` of an exponential moving average with momentum m: m and 1 − m, each rounded to f32 once.
pub fn momentum(m: f64) -> [f32; 2] {
    [m as f32, (1.0 - m) as f32]
}

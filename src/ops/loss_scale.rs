//! loss_scale: launchers of dynamic loss scaling. Maths: `shaders/loss_scale.wgsl`.

use bytemuck::Zeroable;

use super::adamw::square_sums;
use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel, params, read, update, wgsl, write};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `loss_scale.wgsl`.
    pub struct LossScale { n: u32, value: f32, rate1: f32, rate2: f32, max_norm: f32, growth: f32 }
}

const SRC: &str = wgsl!("loss_scale", "reduce");
const SUBGROUP: &str = wgsl!("loss_scale", "reduce_subgroup");
const SEED: Kernel =
    Kernel::new::<LossScale>("loss_scale.seed", SRC, &[read(1, "state"), write(2, "out")]).subgroup(SUBGROUP);
const JUDGE: Kernel =
    Kernel::new::<LossScale>("loss_scale.judge", SRC, &[read(3, "parts"), update(4, "state_out"), write(5, "clip")])
        .subgroup(SUBGROUP);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&SEED, &JUDGE];

/// Numbers of the state: level, steps taken since it changed, steps skipped, both bias corrections.
pub const STATE: usize = 5;

/// Steps in a row without overflow after which the scale doubles.
const GROWTH: f32 = 2000.0;

/// Launches `out` ← value·scale: what backward starts from. `state` is (5), all 0 before the first step.
pub fn seed(r: &mut Recorder, state: &Tensor, value: f32, out: &Tensor) -> Result<()> {
    state.expect_shape("loss_scale.seed: state", &[STATE])?;
    let p = LossScale { n: out.len() as u32, value, ..LossScale::zeroed() };
    r.launch(&SEED, Grid::of(out.len().div_ceil(256), 1, 1), &p, &[state, out])
}

/// Launches the judgement of scaled gradients: moves `state` on and returns a tensor (4) for
/// [`adamw`](super::adamw::adamw): the factor on them, 0 if the step is not to be taken, the norm without the scale,
/// and both bias corrections. An infinite `max_norm` does not clip.
pub fn judge(r: &mut Recorder, state: &Tensor, grads: &[&Tensor], betas: (f64, f64), max_norm: f32) -> Result<Tensor> {
    state.expect_shape("loss_scale.judge: state", &[STATE])?;
    if max_norm.is_nan() || max_norm <= 0.0 {
        return Err(Error::argument("loss_scale.judge: max_norm", max_norm, "a positive number"));
    }
    let parts = square_sums(r, grads)?;
    let clip = Tensor::scratch("clip", &[4]);
    let p = LossScale {
        n: parts.len() as u32,
        rate1: (1.0 - betas.0) as f32,
        rate2: (1.0 - betas.1) as f32,
        max_norm: max_norm.min(1e30),
        growth: GROWTH,
        ..LossScale::zeroed()
    };
    r.launch(&JUDGE, Grid::of(1, 1, 1), &p, &[&parts, state, &clip])?;
    Ok(clip)
}

//! loss_scale: dynamic loss scaling on the device, PyTorch's `torch.amp.GradScaler`. Maths: `shaders/loss_scale.wgsl`.

use bytemuck::Zeroable;

use super::adamw::square_sums;
use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel, params, read, scalars, update, wgsl, write};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `loss_scale.wgsl`.
    pub(crate) struct LossScale { n: u32, value: f32, rate1: f32, rate2: f32, max_norm: f32, growth: f32 }
}

const SRC: &str = wgsl!("loss_scale", "reduce");
const SUBGROUP: &str = wgsl!("loss_scale", "reduce_subgroup");
const SEED: Kernel =
    Kernel::new::<LossScale>("loss_scale.seed", SRC, &[read(1, "state"), write(2, "out")]).subgroup(SUBGROUP);
const JUDGE: Kernel =
    Kernel::new::<LossScale>("loss_scale.judge", SRC, &[read(3, "parts"), update(4, "state_out"), write(5, "clip")])
        .subgroup(SUBGROUP);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&SEED, &JUDGE];

/// Length of the state: level (the scale is 2^(16 + level)), steps taken since the level changed, steps skipped, and
/// AdamW's two bias corrections, which count only steps that were taken.
pub const STATE: usize = 5;

/// Steps in a row without overflow after which the scale doubles: GradScaler's `growth_interval`.
const GROWTH: f32 = 2000.0;

/// Fills `out` with value·scale: the gradient of the loss that the backward pass starts from.
///
/// Starting from a scaled gradient is the same as scaling the loss. The scale is 2^16 at first.
///
/// - Shapes: `state` (5), all 0 before the first step; `out`, any.
/// - PyTorch: `scaler.scale(loss).backward()`, up to the start of `backward`.
/// - Source: Micikevicius et al. 2018.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::loss_scale::seed, tape::*, tensor::Tensor};
/// let state = Tensor::from_slice(g, &[5], &[0.0; 5])?;
/// let dloss = Tensor::scratch("dloss", &[1]);
/// let mut r = Recorder::inference(g);
/// seed(&mut r, &state, 0.5, &dloss)?;
/// r.run()?;
/// assert_eq!(dloss.to_vec(g)?, [32768.0]); // 0.5·2^16
/// # Ok(()) });
/// ```
pub fn seed(r: &mut Recorder, state: &Tensor, value: f32, out: &Tensor) -> Result<()> {
    state.expect_shape("loss_scale.seed: state", &[STATE])?;
    let p = scalars!(LossScale { n: out.len(), value, ..LossScale::zeroed() });
    r.launch(&SEED, Grid::of(out.len().div_ceil(256), 1, 1), &p, &[state, out])
}

/// Decides whether scaled gradients are finite, updates `state`, and returns what [`adamw`](super::adamw::adamw) needs
/// to take the step or to skip it.
///
/// If every gradient is finite, the factor unscales and clips them to a global norm of `max_norm`; an infinite
/// `max_norm` does not clip. Otherwise the factor is 0, AdamW changes nothing, and the scale is halved.
///
/// - Shapes: `state` (5), `grads` flat arenas → (4): factor, norm of the unscaled gradients, and two bias corrections.
/// - PyTorch: `scaler.unscale_(optimizer)`, `clip_grad_norm_(parameters, max_norm)`, the check in
///   `scaler.step(optimizer)`, and `scaler.update()`.
/// - Source: Micikevicius et al. 2018.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::loss_scale::judge, tape::*, tensor::Tensor};
/// let state = Tensor::from_slice(g, &[5], &[0.0; 5])?;
/// let grads = Tensor::from_slice(g, &[64], &[f32::INFINITY; 64])?; // overflow
/// let mut r = Recorder::inference(g);
/// let clip = judge(&mut r, &state, &[&grads], (0.9, 0.999), f32::INFINITY)?;
/// r.run()?;
/// assert_eq!(clip.to_vec(g)?[0], 0.0); // skip the step
/// assert_eq!(state.to_vec(g)?, [-1.0, 0.0, 1.0, 0.0, 0.0]); // level -1: scale 2^15; one step skipped
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If `max_norm` is not above 0, if there are no gradients, or if the length of an arena is no multiple of 64.
pub fn judge(r: &mut Recorder, state: &Tensor, grads: &[&Tensor], betas: (f64, f64), max_norm: f32) -> Result<Tensor> {
    state.expect_shape("loss_scale.judge: state", &[STATE])?;
    if max_norm.is_nan() || max_norm <= 0.0 {
        return Err(Error::argument("loss_scale.judge: max_norm", max_norm, "a positive number"));
    }
    let parts = square_sums(r, grads)?;
    let clip = Tensor::scratch("clip", &[4]);
    let p = scalars!(LossScale {
        n: parts.len(),
        rate1: (1.0 - betas.0) as f32,
        rate2: (1.0 - betas.1) as f32,
        max_norm: max_norm.min(1e30),
        growth: GROWTH,
        ..LossScale::zeroed()
    });
    r.launch(&JUDGE, Grid::of(1, 1, 1), &p, &[&parts, state, &clip])?;
    Ok(clip)
}

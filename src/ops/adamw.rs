//! adamw: the AdamW step over flat arenas of parameters, gradient clipping, and a guard against a loss that is not
//! finite. Maths: `shaders/adamw.wgsl`. Launch them in [`Phase::Update`](crate::gpu::Phase).

use bytemuck::Zeroable;

use super::step::StepState;
use crate::error::{Error, Result};
use crate::gpu::{Bind, Grid, Kernel, LaunchArgs, Work, params, read, scalars, update, wgsl, write};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `adamw.wgsl`.
    pub(crate) struct Adamw {
        n: u32, groups: u32, rate1: f32, rate2: f32, eps: f32, stride: u32, base: u32, max_norm: f32,
    }
}

const SRC: &str = wgsl!("adamw", "grid", "reduce", "step");
const SUBGROUP: &str = wgsl!("adamw", "grid", "reduce_subgroup", "step");

const STEP: Kernel = Kernel::new::<Adamw>(
    "adamw.step",
    SRC,
    &[
        read(1, "state").words(),
        read(2, "grad"),
        read(3, "groups").u32(),
        read(4, "table"),
        update(6, "w"),
        update(7, "m"),
        update(8, "v"),
    ],
)
.least(|x| elements(x, 12));
const CLIPPED: &[Bind] = &[
    read(1, "state").words(),
    read(2, "grad"),
    read(3, "groups").u32(),
    read(4, "table"),
    read(5, "clip"),
    update(6, "w"),
    update(7, "m"),
    update(8, "v"),
];
const STEP_CLIPPED: Kernel = Kernel::new::<Adamw>("adamw.step_clipped", SRC, CLIPPED).least(|x| elements(x, 13));
const STEP_SCALED: Kernel = Kernel::new::<Adamw>("adamw.step_scaled", SRC, CLIPPED).least(|x| elements(x, 13));
const SQUARE_SUM: Kernel = Kernel::new::<Adamw>("adamw.square_sum", SRC, &[read(2, "grad"), write(9, "parts_out")])
    .subgroup(SUBGROUP)
    .least(|x| Work { bytes: x.bytes, ..Work::of(0, 2 * x.len("grad"), 0) });
const CLIP_FACTOR: Kernel =
    Kernel::new::<Adamw>("adamw.clip_factor", SRC, &[read(10, "parts"), write(11, "clip_out")]).subgroup(SUBGROUP);

const GUARD: Kernel =
    Kernel::new::<Adamw>("adamw.guard", SRC, &[read(12, "x").words(), update(13, "table_out")]).subgroup(SUBGROUP);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&STEP, &STEP_CLIPPED, &STEP_SCALED, &SQUARE_SUM, &CLIP_FACTOR, &GUARD];

/// Least work: 28 bytes and `flops` flops per parameter.
fn elements(launch: &LaunchArgs<'_>, flops: usize) -> Work {
    Work { bytes: launch.bytes, ..Work::of(0, flops * launch.len("grad"), 0) }
}

/// Floats of a block. A block belongs to one parameter group, and the length of an arena is a multiple of it.
pub const BLOCK: usize = 64;

/// The hyper-parameters that stay the same for a run, as in `torch.optim.AdamW`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamwConfig {
    /// β1, β2.
    pub betas: (f64, f64),
    /// ε, added to the root of the second moment.
    pub eps: f32,
}

impl Default for AdamwConfig {
    /// The defaults of `torch.optim.AdamW`.
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8 }
    }
}

/// The four flat arrays of an arena: n floats each, where n is a multiple of [`BLOCK`].
#[derive(Debug, Clone, Copy)]
pub struct AdamwArrays<'a> {
    /// Parameters, updated.
    pub p: &'a Tensor,
    /// Gradients.
    pub grad: &'a Tensor,
    /// First moment, updated; 0 before the first step.
    pub m: &'a Tensor,
    /// Second moment, updated; 0 before the first step.
    pub v: &'a Tensor,
}

/// The factor on the gradients.
#[derive(Debug, Clone, Copy)]
pub enum Factor<'a> {
    /// 1: the gradients as they are.
    One,
    /// The result of [`clip_factor`], for gradient clipping.
    Clipped(&'a Tensor),
    /// The result of [`judge`](super::loss_scale::judge), for loss scaling. Its bias corrections replace those of the
    /// state, because steps that were skipped do not count.
    Scaled(&'a Tensor),
}

/// One step of AdamW on all parameters of an arena, in place.
///
/// Learning rate and bias corrections are in `state`, a [`StepState`]. `groups` gives each
/// block of 64 floats its row of `table`, PyTorch's parameter groups. A row is (lr_scale, weight decay); an lr_scale of
/// 0 freezes the group. There is one launch, or one for each range that the adapter can bind.
///
/// - Shapes: `state` (8), `arrays` (n), `groups` (n/64) u32, `table` (G, 2).
/// - PyTorch: `torch.optim.AdamW(param_groups, lr, betas, eps).step()`.
/// - Source: Loshchilov and Hutter 2019.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::ops::{adamw::{AdamwArrays, AdamwConfig, Factor, adamw}, step::StepState};
/// # use rowscan::{doctest::assert_close, tape::*, tensor::Tensor};
/// # let flat = |value: f32| Tensor::from_slice(g, &[128], &[value; 128]);
/// # let (state, mut r) = (StepState::tensor(), Recorder::inference(g));
/// let (p, grad, m, v) = (flat(1.0)?, flat(-3.0)?, flat(0.0)?, flat(0.0)?); // 128 floats: two blocks
/// let groups = Tensor::from_indices(g, &[2], &[0, 1])?;
/// let table = Tensor::from_slice(g, &[2, 2], &[1.0, 0.5, 0.0, 0.5])?; // decay 0.5; group 1 is frozen
/// StepState::new(1, 0.1, (0.9, 0.999), 0).write(g, &state)?; // step 1, learning rate 0.1
/// let arrays = AdamwArrays { p: &p, grad: &grad, m: &m, v: &v };
/// adamw(&mut r, &state, arrays, &groups, &table, Factor::One, AdamwConfig::default())?;
/// r.run()?;
/// # let p = p.to_vec(g)?;
/// assert_close(&[p[0], p[64]], &[1.05, 1.0], 1e-6); // 1 - 0.1·(0.5·1 + grad/|grad|)
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If n is no multiple of 64, if a beta is not in [0, 1), or if eps is not above 0.
pub fn adamw(
    r: &mut Recorder, state: &Tensor, arrays: AdamwArrays<'_>, groups: &Tensor, table: &Tensor, factor: Factor<'_>,
    hyper: AdamwConfig,
) -> Result<()> {
    let AdamwArrays { p, grad, m, v } = arrays;
    let n = blocks("adamw: p", p)? * BLOCK;
    for (what, tensor) in [("adamw: grad", grad), ("adamw: m", m), ("adamw: v", v)] {
        length(what, tensor, n)?;
    }
    length("adamw: groups", groups, n / BLOCK)?;
    state.expect_shape("adamw: state", &[StepState::LEN])?;
    let [rows, _] = table.dims("adamw: table")?;
    table.expect_shape("adamw: table", &[rows, 2])?;
    match factor {
        Factor::One => {}
        Factor::Clipped(clip) => clip.expect_shape("adamw: clip", &[2])?,
        Factor::Scaled(clip) => clip.expect_shape("adamw: clip", &[4])?,
    }
    let (b1, b2) = hyper.betas;
    if !(0.0..1.0).contains(&b1) || !(0.0..1.0).contains(&b2) || !hyper.eps.is_normal() || hyper.eps < 0.0 {
        return Err(Error::argument("adamw: hyper", format!("{hyper:?}"), "0 <= beta < 1 and eps > 0"));
    }
    let scalars = scalars!(Adamw {
        groups: rows,
        rate1: (1.0 - b1) as f32,
        rate2: (1.0 - b2) as f32,
        eps: hyper.eps,
        ..Adamw::zeroed()
    });
    for (start, len) in ranges(n, r.caps().max_range()) {
        let part = |tensor: &Tensor| tensor.range(start, &[len]);
        let (p, grad, m, v) = (part(p)?, part(grad)?, part(m)?, part(v)?);
        let groups = groups.range(start / BLOCK, &[len / BLOCK])?;
        let scalars = scalars!(Adamw { n: len / 4, ..scalars });
        let grid = Grid::items(len / 4, 256);
        let (kernel, clip) = match factor {
            Factor::One => {
                r.launch(&STEP, grid, &scalars, &[state, &grad, &groups, table, &p, &m, &v])?;
                continue;
            }
            Factor::Clipped(clip) => (&STEP_CLIPPED, clip),
            Factor::Scaled(clip) => (&STEP_SCALED, clip),
        };
        r.launch(kernel, grid, &scalars, &[state, &grad, &groups, table, clip, &p, &m, &v])?;
    }
    Ok(())
}

/// The factor that scales gradients to a global norm of at most `max_norm`, and that norm, over all `grads` together.
///
/// It scales nothing itself: pass the result to [`adamw`] as [`Factor::Clipped`]. With an infinite `max_norm` it only
/// measures the norm.
///
/// - Shapes: `grads` flat arenas → (2): min(1, max_norm/(norm + 1e-6)), norm.
/// - PyTorch: `clip_coef_clamped` and `total_norm` of `torch.nn.utils.clip_grad_norm_(parameters, max_norm)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::adamw::clip_factor, tape::*, tensor::Tensor};
/// let grads = Tensor::from_slice(g, &[64], &[0.5; 64])?; // norm √(64·0.25) = 4
/// let mut r = Recorder::inference(g);
/// let clip = clip_factor(&mut r, &[&grads], 1.0)?;
/// r.run()?;
/// assert_close(&clip.to_vec(g)?, &[0.25, 4.0], 1e-5);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If `max_norm` is not above 0, if there are no gradients, or if the length of an arena is no multiple of 64.
pub fn clip_factor(r: &mut Recorder, grads: &[&Tensor], max_norm: f32) -> Result<Tensor> {
    if max_norm.is_nan() || max_norm <= 0.0 {
        return Err(Error::argument("adamw.clip_factor: max_norm", max_norm, "a positive number"));
    }
    let parts = square_sums(r, grads)?;
    let clip = Tensor::scratch("clip", &[2]);
    let scalars = scalars!(Adamw { n: parts.len(), max_norm: max_norm.min(1e30), ..Adamw::zeroed() });
    r.launch(&CLIP_FACTOR, Grid::of(1, 1, 1), &scalars, &[&parts, &clip])?;
    Ok(clip)
}

/// Launches the sums of squares of all `grads`, one for each workgroup. Their sum is the square of the global norm.
pub(super) fn square_sums(r: &mut Recorder, grads: &[&Tensor]) -> Result<Tensor> {
    let mut shares = Vec::new();
    let mut base = 0;
    for grad in grads {
        let n = blocks("adamw: gradients", grad)? * BLOCK;
        for (start, len) in ranges(n, r.caps().max_range()) {
            let workgroups = (len / 4).div_ceil(256 * 8).min(1024); // eight vec4s for an invocation
            shares.push((grad.range(start, &[len])?, workgroups, base));
            base += workgroups;
        }
    }
    if shares.is_empty() {
        return Err(Error::argument("adamw: gradients", "none", "at least one arena"));
    }
    let parts = Tensor::scratch("square sums", &[base]);
    for (share, workgroups, base) in shares {
        let scalars = scalars!(Adamw { n: share.len() / 4, stride: workgroups * 256, base, ..Adamw::zeroed() });
        r.launch(&SQUARE_SUM, Grid::of(workgroups, 1, 1), &scalars, &[&share, &parts])?;
    }
    Ok(parts)
}

/// Freezes all parameter groups for good if the loss x is not finite.
///
/// It sets every lr_scale in `table` to 0. Launched before [`adamw`], it keeps weights and moments as they were before
/// the step that went wrong.
///
/// - Shapes: x, any; `table` (G, 2) of [`adamw`].
/// - MAE: `if not math.isfinite(loss_value): sys.exit(1)` before the step, but without waiting for the GPU.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::adamw::guard, tape::*, tensor::Tensor};
/// let loss = Tensor::from_slice(g, &[1], &[f32::NAN])?;
/// let table = Tensor::from_slice(g, &[2, 2], &[1.0, 0.05, 1.0, 0.0])?;
/// let mut r = Recorder::inference(g);
/// guard(&mut r, &loss, &table)?;
/// r.run()?;
/// assert_eq!(table.to_vec(g)?, [0.0, 0.05, 0.0, 0.0]);
/// # Ok(()) });
/// ```
pub fn guard(r: &mut Recorder, x: &Tensor, table: &Tensor) -> Result<()> {
    let [rows, _] = table.dims("adamw.guard: table")?;
    table.expect_shape("adamw.guard: table", &[rows, 2])?;
    let scalars = scalars!(Adamw { n: x.len(), groups: rows, ..Adamw::zeroed() });
    r.launch(&GUARD, Grid::of(1, 1, 1), &scalars, &[x, table])
}

/// (start, length) of the ranges of at most `bytes` bytes that cover n floats. A range starts at a multiple of 64
/// blocks, so that its part of `groups`, one number per block, can be bound too.
fn ranges(n: usize, bytes: u64) -> impl Iterator<Item = (usize, usize)> {
    const UNIT: usize = 64 * BLOCK;
    let most = (bytes as usize / 4 / UNIT * UNIT).max(UNIT);
    (0..n).step_by(most).map(move |start| (start, most.min(n - start)))
}

/// Number of blocks of an arena.
fn blocks(what: &str, tensor: &Tensor) -> Result<usize> {
    match tensor.len() {
        n if n > 0 && n % BLOCK == 0 => Ok(n / BLOCK),
        n => Err(Error::argument(what.to_owned(), format!("{n} floats"), format!("a multiple of {BLOCK}"))),
    }
}

fn length(what: &str, tensor: &Tensor, n: usize) -> Result<()> {
    if tensor.len() == n {
        return Ok(());
    }
    Err(Error::argument(what.to_owned(), format!("{} elements", tensor.len()), format!("{n} elements")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Caps, Gpu};

    /// An adapter that binds at most 20000 bytes gets ranges of 4096 floats, each at the same place in every array.
    #[test]
    fn ranges_keep_to_the_binding_limit() {
        let g = Gpu::dry(Caps { max_binding: 20_000, ..Caps::portable() });
        let n = 2 * 4096 + 3 * BLOCK;
        let [p, grad, m, v] = ["p", "grad", "m", "v"].map(|label| Tensor::input(label, &[n]));
        let (groups, table) = (Tensor::indices("groups", &[n / BLOCK]), Tensor::input("table", &[3, 2]));
        let arrays = AdamwArrays { p: &p, grad: &grad, m: &m, v: &v };
        let state = StepState::tensor();
        let (recording, _) = Recorder::inference(&g)
            .record(|r| {
                let clip = clip_factor(r, &[&grad], 1.0)?;
                adamw(r, &state, arrays, &groups, &table, Factor::Clipped(&clip), AdamwConfig::default())?;
                Ok(clip)
            })
            .unwrap();
        let names: Vec<_> = recording.launches().iter().map(|l| l.name()).collect();
        assert_eq!(names[..4], ["adamw.square_sum", "adamw.square_sum", "adamw.square_sum", "adamw.clip_factor"]);
        assert_eq!(names[4..], ["adamw.step_clipped"; 3]);
        for (i, len) in [4096, 4096, 3 * BLOCK].into_iter().enumerate() {
            let place = |launch: usize, arg: usize| {
                let view = &recording.launches()[launch].args[arg];
                (view.offset, view.bytes)
            };
            let flat = (i as u64 * 4096 * 4, len as u64 * 4);
            assert_eq!(place(i, 0), flat);
            assert_eq!(place(4 + i, 2), (flat.0 / 64, flat.1 / 64));
            assert_eq!([1, 5, 6, 7].map(|arg| place(4 + i, arg)), [flat; 4]);
        }
    }
}

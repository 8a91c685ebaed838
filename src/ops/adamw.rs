//! adamw: launchers of the AdamW step over flat arenas and of the clip factor. Maths: `shaders/adamw.wgsl`.
//! Launch them in [`Phase::Update`](crate::gpu::Phase).

use bytemuck::Zeroable;

use crate::error::{Error, Result};
use crate::gpu::{Args, Bind, Grid, Kernel, Work, params, read, update, wgsl, write};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `adamw.wgsl`.
    pub struct Adamw {
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
pub const KERNELS: &[&Kernel] = &[&STEP, &STEP_CLIPPED, &STEP_SCALED, &SQUARE_SUM, &CLIP_FACTOR, &GUARD];

/// 28 bytes and so many flops per parameter.
fn elements(launch: &Args<'_>, flops: usize) -> Work {
    Work { bytes: launch.bytes, ..Work::of(0, flops * launch.len("grad"), 0) }
}

/// Elements that share a row of the group table; arenas are multiples of it.
pub const BLOCK: usize = 64;

/// The hyper-parameters that stay the same for a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamwConfig {
    /// β1, β2.
    pub betas: (f64, f64),
    /// Added after the root.
    pub eps: f32,
}

impl Default for AdamwConfig {
    /// The defaults of torch.optim.AdamW.
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8 }
    }
}

/// The four flat arrays of one arena, each n floats, n a multiple of [`BLOCK`].
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

/// What the gradients are multiplied by.
#[derive(Debug, Clone, Copy)]
pub enum Factor<'a> {
    /// By nothing.
    One,
    /// By what [`clip_factor`] returned.
    Clipped(&'a Tensor),
    /// By what [`judge`](super::loss_scale::judge) returned, whose bias corrections count instead of those of the
    /// state.
    Scaled(&'a Tensor),
}

/// One step. `state` is a [`StepState`](super::step::StepState); `groups` (n/64) u32 gives for each block its row of
/// `table` (G, 2): lr_scale (0 freezes) and weight decay. One launch, or one per range that the adapter can bind.
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
    state.expect_shape("adamw: state", &[8])?;
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
    let scalars = Adamw {
        groups: rows as u32,
        rate1: (1.0 - b1) as f32,
        rate2: (1.0 - b2) as f32,
        eps: hyper.eps,
        ..Adamw::zeroed()
    };
    for (start, len) in ranges(n, r.caps().max_range()) {
        let part = |tensor: &Tensor| tensor.range(start, &[len]);
        let (p, grad, m, v) = (part(p)?, part(grad)?, part(m)?, part(v)?);
        let groups = groups.range(start / BLOCK, &[len / BLOCK])?;
        let scalars = Adamw { n: (len / 4) as u32, ..scalars };
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

/// Factor that scales the gradients of all these arenas to a global norm of at most `max_norm`, and that norm: a tensor
/// [min(1, max_norm/(norm + 1e-6)), norm]. An infinite `max_norm` measures only.
pub fn clip_factor(r: &mut Recorder, grads: &[&Tensor], max_norm: f32) -> Result<Tensor> {
    if max_norm.is_nan() || max_norm <= 0.0 {
        return Err(Error::argument("adamw.clip_factor: max_norm", max_norm, "a positive number"));
    }
    let parts = square_sums(r, grads)?;
    let clip = Tensor::scratch("clip", &[2]);
    let scalars = Adamw { n: parts.len() as u32, max_norm: max_norm.min(1e30), ..Adamw::zeroed() };
    r.launch(&CLIP_FACTOR, Grid::of(1, 1, 1), &scalars, &[&parts, &clip])?;
    Ok(clip)
}

/// Sums of squares of shares of all these arenas.
pub(super) fn square_sums(r: &mut Recorder, grads: &[&Tensor]) -> Result<Tensor> {
    let mut shares = Vec::new();
    let mut base = 0;
    for grad in grads {
        let n = blocks("adamw: gradients", grad)? * BLOCK;
        for (start, len) in ranges(n, r.caps().max_range()) {
            let workgroups = (len / 4).div_ceil(256 * 8).min(1024); // eight vec4s each, until the adapter is full
            shares.push((grad.range(start, &[len])?, workgroups, base));
            base += workgroups;
        }
    }
    if shares.is_empty() {
        return Err(Error::argument("adamw: gradients", "none", "at least one arena"));
    }
    let parts = Tensor::scratch("square sums", &[base]);
    for (share, workgroups, base) in shares {
        let scalars = Adamw {
            n: (share.len() / 4) as u32,
            stride: (workgroups * 256) as u32,
            base: base as u32,
            ..Adamw::zeroed()
        };
        r.launch(&SQUARE_SUM, Grid::of(workgroups, 1, 1), &scalars, &[&share, &parts])?;
    }
    Ok(parts)
}

/// Freezes every group of `table` (G, 2) for good if one of `x`, the loss, is not finite: launched before [`adamw`], it
/// leaves weights and moments as they were before the step that went wrong.
pub fn guard(r: &mut Recorder, x: &Tensor, table: &Tensor) -> Result<()> {
    let [rows, _] = table.dims("adamw.guard: table")?;
    table.expect_shape("adamw.guard: table", &[rows, 2])?;
    let scalars = Adamw { n: x.len() as u32, groups: rows as u32, ..Adamw::zeroed() };
    r.launch(&GUARD, Grid::of(1, 1, 1), &scalars, &[x, table])
}

/// (start, length) of ranges of at most `bytes` bytes that cover n floats. They start at multiples of 64 blocks, so
/// that the range of `groups` is bindable too.
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

    /// An adapter that binds at most 20000 bytes sees ranges of 4096 floats, each at its place in every array.
    #[test]
    fn ranges_keep_to_the_binding_limit() {
        let g = Gpu::dry(Caps { max_binding: 20_000, ..Caps::portable() });
        let n = 2 * 4096 + 3 * BLOCK;
        let [p, grad, m, v] = ["p", "grad", "m", "v"].map(|label| Tensor::input(label, &[n]));
        let (groups, table) = (Tensor::indices("groups", &[n / BLOCK]), Tensor::input("table", &[3, 2]));
        let arrays = AdamwArrays { p: &p, grad: &grad, m: &m, v: &v };
        let state = super::super::step::StepState::tensor();
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

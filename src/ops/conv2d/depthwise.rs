//! Convolutions with one channel a group: the launches of y, dx, dw and dbias.

use super::dense::packed;
use super::shape::Shape;
use crate::error::Result;
use crate::gpu::{Bind, Choice, Const, Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write};
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `conv2d_depthwise.wgsl`.
    pub(crate) struct Depthwise {
        lanes: u32, c: u32, units: u32, strips: u32, runs: u32, run: u32,
        h: u32, w: u32, top: u32, left: u32,
        rows: u32, dilation: u32, grids_h: u32, grids_w: u32,
        out_h: u32, out_w: u32, has_bias: u32, per: u32, shares: u32,
    }
}

const SRC: &str = wgsl!("conv2d_depthwise", "grid", "half", "element");
const CONSTS: &[Const] = &[
    Const::of("K", &[3, 5, 7]),
    Const::of("S", &[1, 2, 3, 4]),
    Const::flag("BACK"),
    Const::flag("IN16"),
    Const::flag("OUT16"),
    Const::flag("DY16"),
];
/// Only `walk` goes back, and only `walk` writes maps.
fn sums_only(c: &Choice<'_>) -> bool {
    c.get("BACK") == 0 && c.get("OUT16") == 0
}
fn walk_only(c: &Choice<'_>) -> bool {
    c.get("DY16") == 0
}
const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<Depthwise>(name, SRC, binds).consts(CONSTS).rounds()
}

pub(super) const WALK: Kernel = kernel(
    "conv2d_depthwise.walk",
    &[read(1, "x").f16_if("IN16"), read(2, "taps"), read(3, "bias"), write(4, "y").f16_if("OUT16")],
)
.admits(walk_only)
.least(walk);
pub(super) const SUMS: Kernel =
    kernel("conv2d_depthwise.sums", &[read(1, "x").f16_if("IN16"), read(5, "dy").f16_if("DY16"), write(6, "part")])
        .admits(sums_only)
        .least(sums);
pub(super) const FINISH: Kernel =
    kernel("conv2d_depthwise.finish", &[read(7, "parts"), write(8, "dw"), write(9, "dbias")]).admits(sums_only);

/// Least work of a walk: each array is moved once. Of dx, terms are counted as y's are.
fn walk(launch: &LaunchArgs<'_>) -> Work {
    let k = launch.constant("K");
    let y = if launch.constant("BACK") == 1 { launch.len("x") } else { launch.len("y") };
    Work { bytes: launch.bytes, ..Work::of(0, 2 * k * k * y, 0) }
}

/// Least work of the sums: both maps are read once, and the sums of each share are written.
fn sums(launch: &LaunchArgs<'_>) -> Work {
    let k = launch.constant("K");
    Work { bytes: launch.bytes, ..Work::of(0, (2 * k * k + 1) * launch.len("dy"), 0) }
}

/// Columns of a channel that a lane walks down, X in the shader. A lane that writes f16 has [`PAIR`] channels of half
/// as many.
const X: usize = 4;
/// Channels in a word of f16.
const PAIR: usize = 2;
/// Most rows that a lane walks. Longer runs load fewer rows twice; shorter runs are more parallel.
const RUN: usize = 32;
/// Lanes of `sums` that keep a GPU busy. More lanes have more sums to store.
const BUSY: usize = 32_768;

/// The strips of a map of `sides`, of `channels` channels a lane, and what all kernels need. With a dilation they lie
/// on grids of pixels that are so far apart.
fn strips(s: &Shape, sides: [usize; 2], channels: usize) -> Depthwise {
    let dilation = s.dilation[0];
    let [rows, cols] = sides.map(|side| side.div_ceil(dilation));
    let [grids_h, grids_w] = sides.map(|side| side.min(dilation));
    let runs = rows.div_ceil(RUN);
    let run = rows.div_ceil(runs);
    let (strips, c, [top, left]) = (cols.div_ceil(X / channels), s.c, s.before);
    let units = s.b * grids_h * grids_w * runs * strips;
    let zero = bytemuck::Zeroable::zeroed();
    scalars!(Depthwise {
        lanes: units * (c / channels),
        c,
        units,
        strips,
        runs,
        run,
        top,
        left,
        rows,
        dilation,
        grids_h,
        grids_w,
        ..zero
    })
}

/// A walk over x for the pixels of y.
fn over_x(s: &Shape, channels: usize) -> Depthwise {
    let ([h, w], [out_h, out_w]) = (s.size, s.out);
    scalars!(Depthwise { h, w, out_h, out_w, ..strips(s, s.out, channels) })
}

/// Channels of a lane that writes this map.
fn channels(map: &Tensor) -> usize {
    if map.is_f16() { PAIR } else { 1 }
}

fn consts(s: &Shape, back: bool) -> [(&'static str, u32); 3] {
    [("K", s.kernel[0] as u32), ("S", s.stride[0] as u32), ("BACK", u32::from(back))]
}

/// Writes y.
pub(super) fn forward(
    r: &mut Recorder, s: &Shape, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, y: &Tensor,
) -> Result<()> {
    let taps = packed(r, w, [1, s.c, s.taps()])?;
    let p = Depthwise { has_bias: bias.is_some().into(), ..over_x(s, channels(y)) };
    let grid = Grid::items(p.lanes as usize, 64);
    r.launch_with(&WALK, &consts(s, false), grid, &p, &[Some(x), Some(&taps), bias, Some(y)])
}

/// The gradients of x, w and the bias, where they are wanted.
pub(super) fn backward(
    r: &mut Recorder, s: &Shape, (x, w, bias): (&Var, &Var, Option<&Var>), dy: &Tensor, grads: &mut Grads,
) -> Result<()> {
    if grads.wants(w) || bias.is_some_and(|bias| grads.wants(bias)) {
        let dw = grads.alloc(w);
        let dbias = bias.map_or_else(|| Tensor::scratch("unused", &[s.c]), |bias| grads.alloc(bias));
        weights(r, s, &x.data, dy, [&dw, &dbias])?;
        grads.add(r, w, dw)?;
        if let Some(bias) = bias {
            grads.add(r, bias, dbias)?;
        }
    }
    if !grads.wants(x) {
        return Ok(());
    }
    let dx = grads.alloc(x);
    let taps = packed(r, &w.data, [1, s.c, s.taps()])?;
    let ([h, w], [out_h, out_w], stride) = (s.out, s.size, s.stride[0]);
    let p = strips(s, s.size.map(|side| side.div_ceil(stride)), channels(&dx));
    let p = scalars!(Depthwise { lanes: p.lanes as usize * stride * stride, h, w, out_h, out_w, ..p });
    let grid = Grid::items(p.lanes as usize, 64);
    r.launch_with(&WALK, &consts(s, true), grid, &p, &[Some(dy), Some(&taps), None, Some(&dx)])?;
    grads.add(r, x, dx)
}

/// Writes dw and dbias.
fn weights(r: &mut Recorder, s: &Shape, x: &Tensor, dy: &Tensor, [dw, dbias]: [&Tensor; 2]) -> Result<()> {
    let p = over_x(s, 1);
    let (k, stride, units) = (s.kernel[0], s.stride[0], p.units as usize);
    // llvmpipe ends the loops of an invocation after 65,535 iterations, whatever it unrolls
    let span = (X - 1) * stride + k;
    let iterations = (p.run as usize + k.div_ceil(stride)) * (k * (X + 1) * (k + 1) + stride * (span + 1) + 4 * k + 9);
    let most = (60_000 / iterations).max(1);
    let per = (units * s.c).div_ceil(BUSY).clamp(1, most);
    let shares = units.div_ceil(per);
    let p = scalars!(Depthwise { lanes: shares * s.c, per, shares, ..p });
    let sums = s.taps() + 1;
    let part = Tensor::scratch("conv2d partial sums", &[shares, sums, s.c]);
    r.launch_with(&SUMS, &consts(s, false), Grid::items(p.lanes as usize, 64), &p, &[x, dy, &part])?;
    r.launch_with(&FINISH, &consts(s, false), Grid::items(sums * s.c, 32), &p, &[&part, dw, dbias])
}

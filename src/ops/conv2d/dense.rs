//! Convolutions as products: the launches of y, dx and dw.

use super::shape::{Phase, Shape};
use crate::error::Result;
use crate::gpu::{Bind, Choice, Const, Grid, Kernel, LaunchArgs, Precision, Work, params, read, scalars, wgsl, write};
use crate::ops::matmul::{Form, Gemm, Route, best};
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `conv2d.wgsl`.
    pub(crate) struct Conv2d {
        batch: u32, m: u32, n: u32, k: u32, lda: u32, ldb: u32, a_stride: u32, b_stride: u32, splits: u32, k_split: u32,
        has_bias: u32, has_residual: u32,
        ldc: u32,
        rows: u32, cols: u32,
        h: u32, w: u32, c: u32, cg: u32,
        taps_x: u32, mul_y: u32, mul_x: u32, off_y: u32, off_x: u32,
        taps: u32, kw: u32, ky0: u32, kx0: u32, kstep_y: u32, kstep_x: u32,
        out_h: u32, out_w: u32, y0: u32, x0: u32, step_y: u32, step_x: u32,
    }
}

const SRC: &str = wgsl!("conv2d", "../matmul", "grid", "half");
const PRODUCT: &[Bind] = &[read(1, "a"), read(2, "b"), read(3, "bias"), read(4, "residual"), write(5, "c")];
/// Constants of matmul.wgsl that a convolution has no choice of: no activation, no rounding of operands.
const ACT: Const = Const::of("ACT", &[0]);
const ROUND: Const = Const::of("ROUND", &[0]);
const FORM: Const = Const::of("FORM", &[0, 1, 2]);
const VEC: Const = Const::of("VEC", &[1, 0]);
const C4: Const = Const::of("C4", &[1, 0]);
const LAST: Const = Const::flag("LAST");
const DIRECT_CONSTS: &[Const] =
    &[FORM, VEC, ACT, ROUND, Const::of("TILE_M", &[64]), Const::of("TILE_N", &[64]), C4, LAST];
const TILED_CONSTS: &[Const] =
    &[FORM, VEC, ACT, ROUND, Const::of("TILE_M", &[64, 128]), Const::of("TILE_N", &[64, 128]), C4, LAST];
/// The two kernels without tiles know the constants by name only.
const OTHER_CONSTS: &[Const] = &[
    Const::of("FORM", &[2]),
    Const::of("VEC", &[0]),
    ACT,
    ROUND,
    Const::of("TILE_M", &[64]),
    Const::of("TILE_N", &[64]),
    C4,
    Const::of("LAST", &[1]),
];

/// Tiles of 128 × 128 take more than 16 KiB of workgroup memory. `Variant::check` allows them where the adapter has it.
fn both_wide(c: &Choice<'_>) -> bool {
    c.get("TILE_M") == 128 && c.get("TILE_N") == 128
}
/// Only dw has parts, whose sum comes last.
fn parts_of_dw(c: &Choice<'_>) -> bool {
    c.get("LAST") == 0 || c.get("FORM") == Form::Tn as u32
}

const fn product(name: &'static str, consts: &'static [Const]) -> Kernel {
    Kernel::new::<Conv2d>(name, SRC, PRODUCT).consts(consts).admits(parts_of_dw).rounds().least(work)
}

pub(super) const DIRECT: Kernel = product("conv2d.direct", DIRECT_CONSTS);
pub(super) const TILED: Kernel = product("conv2d.tiled", TILED_CONSTS).large(both_wide);
pub(super) const COMBINE: Kernel = Kernel::new::<Conv2d>(
    "conv2d.combine",
    SRC,
    &[read(3, "bias"), read(4, "residual"), write(5, "c"), read(6, "part")],
)
.consts(OTHER_CONSTS)
.rounds();
pub(super) const PACK: Kernel =
    Kernel::new::<Conv2d>("conv2d.pack", SRC, &[read(7, "weight"), write(8, "packed")]).consts(OTHER_CONSTS).rounds();

/// Least work of a product: each operand is read and each result is written once.
fn work(launch: &LaunchArgs<'_>) -> Work {
    let p: Conv2d = launch.scalars();
    let [batch, m, n, k, splits] = [p.batch, p.m, p.n, p.k, p.splits].map(|size| size as usize);
    let pixels = if launch.constant("FORM") == Form::Tn as usize { k } else { m };
    let map = pixels / (p.rows * p.cols).max(1) as usize * (p.h * p.w * p.c) as usize;
    let other = batch * if launch.constant("FORM") == Form::Tn as usize { m * k } else { n * k };
    let added = (p.n * p.batch * p.has_bias) as usize + batch * m * n * p.has_residual as usize;
    Work::of(4 * (map + other + added + batch * m * n * splits), 2 * batch * m * n * k, 0)
}

/// A copy of w (m, channels, taps) as (m, taps, channels).
pub(super) fn packed(r: &mut Recorder, w: &Tensor, [m, channels, taps]: [usize; 3]) -> Result<Tensor> {
    if taps == 1 || channels == 1 {
        return Ok(w.clone());
    }
    let packed = Tensor::scratch("conv2d packed weights", &[m, taps, channels]);
    let p = scalars!(Conv2d { m, cg: channels, taps, ..bytemuck::Zeroable::zeroed() });
    r.launch(&PACK, Grid::items(w.len(), 256), &p, &[w, &packed])?;
    Ok(packed)
}

/// Longest part of a sum, so that llvmpipe, which ends loops early, adds all terms.
const PART: usize = 32_768;
/// k_split is a multiple of it.
const STEP: usize = 16;

impl Conv2d {
    /// A product that gathers x by all taps: y (`Form::Nt`) or dw (`Form::Tn`).
    fn of_x(s: &Shape) -> Self {
        let before = s.before.map(|before| (before as u32).wrapping_neg());
        scalars!(Conv2d {
            batch: s.groups,
            splits: 1,
            rows: s.rows(),
            cols: s.cols(),
            h: s.size[0],
            w: s.size[1],
            c: s.c,
            cg: s.c / s.groups,
            taps_x: s.kernel[1],
            mul_y: s.stride[0],
            mul_x: s.stride[1],
            off_y: before[0],
            off_x: before[1],
            taps: s.taps(),
            ..bytemuck::Zeroable::zeroed()
        })
    }

    fn gemm(&self, form: Form) -> Gemm {
        Gemm::dense(form, self.batch as usize, self.m as usize, self.n as usize, self.k as usize)
    }
}

/// Writes y.
pub(super) fn forward(
    r: &mut Recorder, s: &Shape, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, y: &Tensor,
) -> Result<()> {
    let (cg, og) = (s.c / s.groups, s.o / s.groups);
    let w = packed(r, w, [s.o, cg, s.taps()])?;
    let k = s.taps() * cg;
    let p = scalars!(Conv2d {
        m: s.pixels(),
        n: og,
        k: k,
        lda: 1,
        ldb: k,
        a_stride: s.pixels(),
        b_stride: og * k,
        k_split: k,
        has_bias: bias.is_some(),
        ldc: s.o,
        ..Conv2d::of_x(s)
    });
    let quads = [cg % 4 == 0, og % 4 == 0];
    launch(r, Form::Nt, quads, &p, &[Some(x), Some(&w), bias, None, Some(y)])
}

/// The gradients of x and w, where they are wanted.
pub(super) fn backward(
    r: &mut Recorder, s: &Shape, (x, w): (&Var, &Var), dy: &Tensor, grads: &mut Grads,
) -> Result<()> {
    if grads.wants(w) {
        let dw = grads.alloc(w);
        weights(r, s, &x.data, dy, &dw)?;
        grads.add(r, w, dw)?;
    }
    if !grads.wants(x) {
        return Ok(());
    }
    // The product adds the gradient that x has collected so far. That tensor may be shared, so dx is a new one.
    let before = grads.take(x);
    let dx = if before.is_some() { Tensor::scratch("gradient", x.data.shape()) } else { grads.alloc(x) };
    let packed = packed(r, &w.data, [s.o, s.c / s.groups, s.taps()])?;
    for rows in s.phases(0) {
        for cols in s.phases(1) {
            phase(r, s, [rows, cols], dy, &packed, before.as_ref(), &dx)?;
        }
    }
    grads.add(r, x, dx)
}

/// Writes the pixels of dx of one phase.
fn phase(
    r: &mut Recorder, s: &Shape, [rows, cols]: [Phase; 2], dy: &Tensor, w: &Tensor, residual: Option<&Tensor>,
    dx: &Tensor,
) -> Result<()> {
    let (cg, og) = (s.c / s.groups, s.o / s.groups);
    // a phase that no tap reads has one tap that lies outside of the map, for a gradient of 0
    let none = rows.taps * cols.taps == 0;
    let taps = [rows.taps.max(1), cols.taps.max(1)];
    let k = taps[0] * taps[1] * og;
    let m = s.b * rows.count * cols.count;
    let p = scalars!(Conv2d {
        batch: s.groups,
        m: m,
        n: cg,
        k: k,
        lda: 1,
        ldb: 1,
        a_stride: m,
        b_stride: k,
        splits: 1,
        k_split: k,
        has_bias: false,
        has_residual: residual.is_some(),
        ldc: s.c,
        rows: rows.count,
        cols: cols.count,
        h: s.rows(),
        w: s.cols(),
        c: s.o,
        cg: og,
        taps_x: taps[1],
        mul_y: 1,
        mul_x: 1,
        off_y: if none { OUTSIDE } else { rows.shift as u32 },
        off_x: cols.shift,
        taps: s.taps(),
        kw: s.kernel[1],
        ky0: if none { 0 } else { rows.tap as u32 },
        kx0: if none { 0 } else { cols.tap as u32 },
        kstep_y: s.stride[0],
        kstep_x: s.stride[1],
        out_h: s.size[0],
        out_w: s.size[1],
        y0: rows.first,
        x0: cols.first,
        step_y: s.stride[0],
        step_x: s.stride[1],
    });
    let quads = [cg % 4 == 0 && og % 4 == 0, cg % 4 == 0];
    launch(r, Form::Nn, quads, &p, &[Some(dy), Some(w), None, residual, Some(dx)])
}

/// A row outside of every map.
const OUTSIDE: u32 = 1 << 31;

/// Writes dw.
fn weights(r: &mut Recorder, s: &Shape, x: &Tensor, dy: &Tensor, dw: &Tensor) -> Result<()> {
    let (cg, og) = (s.c / s.groups, s.o / s.groups);
    let (n, k) = (s.taps() * cg, s.pixels());
    let p = scalars!(Conv2d { m: og, n: n, k: k, lda: s.o, ldb: 1, a_stride: og, b_stride: k, ..Conv2d::of_x(s) });
    let vec = cg % 4 == 0 && og % 4 == 0;
    let wanted = best(r, Precision::F32, &p.gemm(Form::Tn)).splits.max(k.div_ceil(PART));
    let k_split = k.div_ceil(wanted).next_multiple_of(STEP);
    let splits = k.div_ceil(k_split);
    let p = scalars!(Conv2d { splits: splits, k_split: k_split, ..p });
    if splits == 1 {
        return launch(r, Form::Tn, [vec, false], &p, &[Some(dy), Some(x), None, None, Some(dw)]);
    }
    let part = Tensor::scratch("conv2d.part", &[splits, s.groups, og, n]);
    launch(r, Form::Tn, [vec, n % 4 == 0], &p, &[Some(dy), Some(x), None, None, Some(&part)])?;
    let grid = Grid::items(s.o * n / if n % 4 == 0 { 4 } else { 1 }, 256);
    let none: Option<&Tensor> = None;
    r.launch_with(&COMBINE, &[("C4", u32::from(n % 4 == 0))], grid, &p, &[none, none, Some(dw), Some(&part)])
}

/// Launches a product. `quads`: whether operands are loaded, and results stored, four at a time.
fn launch(r: &mut Recorder, form: Form, quads: [bool; 2], p: &Conv2d, args: &[Option<&Tensor>; 5]) -> Result<()> {
    let (kernel, tile) = match best(r, Precision::F32, &p.gemm(form)).path {
        Route::Tiled(m, n) => (&TILED, [m, n]),
        Route::Direct | Route::Coop(_) => (&DIRECT, [64, 64]),
    };
    let last = form == Form::Tn && p.splits == 1;
    let [vec, c4] = quads.map(u32::from);
    let consts = [
        ("FORM", form as u32),
        ("VEC", vec),
        ("TILE_M", tile[0] as u32),
        ("TILE_N", tile[1] as u32),
        ("C4", c4),
        ("LAST", u32::from(last)),
    ];
    let grid =
        Grid::of((p.n as usize).div_ceil(tile[1]), (p.m as usize).div_ceil(tile[0]), (p.batch * p.splits) as usize);
    r.launch_with(kernel, &consts, grid, p, args)
}

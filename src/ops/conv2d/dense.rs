//! Convolutions as products: the launches of y, dx and dw.

use super::shape::Shape;
use crate::error::Result;
use crate::gpu::{
    Bind, Choice, Const, Grid, Kernel, LaunchArgs, Needs, Precision, Work, params, read, scalars, wgsl, write,
};
use crate::ops::matmul::{BUSY, Form, Gemm, KS, Route, best};
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
        kh: u32, kw: u32, stride_y: u32, stride_x: u32, dilation_y: u32, dilation_x: u32, top: u32, left: u32,
        out_h: u32, out_w: u32,
    }
}

const SRC: &str =
    wgsl!("conv2d", "../matmul", "grid", "half", "element", "conv2d", "operands", "blocks", "results", "no_sums");
const PRODUCT: &[Bind] = &[
    read(1, "a").f16_if("A16"),
    read(2, "b").f16_if("B16"),
    read(3, "bias"),
    read(4, "residual").f16_if("R16"),
    write(5, "c").f16_if("C16"),
];
/// A convolution has no activation.
const ACT: Const = Const::of("ACT", &[0]);
/// Whether operands are rounded to f16: mixed precision without cooperative matrices.
const ROUND: Const = Const::flag("ROUND");
const FORM: Const = Const::of("FORM", &[0, 1, 2]);
const VEC: Const = Const::of("VEC", &[1, 0]);
const C4: Const = Const::of("C4", &[1, 0]);
const LAST: Const = Const::flag("LAST");
const A16: Const = Const::flag("A16");
const B16: Const = Const::flag("B16");
const R16: Const = Const::flag("R16");
const C16: Const = Const::flag("C16");
const DIRECT_CONSTS: &[Const] = &[
    FORM,
    VEC,
    ACT,
    ROUND,
    Const::of("TILE_M", &[64]),
    Const::of("TILE_N", &[64]),
    Const::of("ROWS", &[8, 16]),
    Const::of("COLS", &[8, 4]),
    C4,
    LAST,
    A16,
    B16,
    R16,
    C16,
];
const TILED_CONSTS: &[Const] = &[
    FORM,
    VEC,
    ACT,
    ROUND,
    Const::of("TILE_M", &[64, 128]),
    Const::of("TILE_N", &[64, 128]),
    Const::of("ROWS", &[8]),
    Const::of("COLS", &[8]),
    C4,
    LAST,
    A16,
    B16,
    R16,
    C16,
];
/// The constants of what is f32.
const ONLY_F32: [Const; 4] =
    [Const::of("A16", &[0]), Const::of("B16", &[0]), Const::of("R16", &[0]), Const::of("C16", &[0])];
/// Constants of the kernels on cooperative matrices, with the lanes that a subgroup may have.
const fn on_lanes(lanes: &'static [u32]) -> [Const; 13] {
    [
        FORM,
        Const::of("VEC", &[2, 1, 0]),
        ACT,
        Const::of("LANES", lanes),
        Const::of("TILE", &[64, 128]),
        Const::of("KS", &[KS as u32]),
        Const::flag("HIGH"),
        C4,
        LAST,
        A16,
        B16,
        R16,
        C16,
    ]
}
const CONSTS16: &[Const] = &on_lanes(&[32, 64]);
const CONSTS8: &[Const] = &on_lanes(&[32, 8, 16]);
/// `combine` and `pack` know the constants of tiles by name only. `pack` has the form of the product that reads it.
const OTHER_CONSTS: &[Const] = &[
    Const::of("FORM", &[2, 1]),
    Const::of("VEC", &[0]),
    ACT,
    Const::of("ROUND", &[0]),
    Const::of("TILE_M", &[64]),
    Const::of("TILE_N", &[64]),
    Const::of("ROWS", &[8]),
    Const::of("COLS", &[8]),
    C4,
    Const::of("LAST", &[1]),
    ONLY_F32[0],
    ONLY_F32[1],
    ONLY_F32[2],
    ONLY_F32[3],
];

/// Tiles of 128 × 128 take more than 16 KiB of workgroup memory. `Variant::check` allows them where the adapter has it.
fn both_wide(c: &Choice<'_>) -> bool {
    c.get("TILE_M") == 128 && c.get("TILE_N") == 128
}
/// Only dw has parts, whose sum comes last, and it is f32. The b of the others are weights, which are f32 too. Results
/// in f16 are stored four at a time.
fn possible(c: &Choice<'_>) -> bool {
    match c.get("FORM") == Form::Tn as u32 {
        true => c.get("C16") == 0 && c.get("R16") == 0,
        false => c.get("LAST") == 0 && c.get("B16") == 0 && (c.get("C16") == 0 || c.get("C4") == 1),
    }
}

const fn product(name: &'static str, consts: &'static [Const]) -> Kernel {
    Kernel::new::<Conv2d>(name, SRC, PRODUCT).consts(consts).admits(possible).rounds().least(work)
}

pub(super) const DIRECT: Kernel = product("conv2d.direct", DIRECT_CONSTS);
pub(super) const TILED: Kernel = product("conv2d.tiled", TILED_CONSTS).large(both_wide);
/// With HIGH = 1 each operand is two f16 matrices, which exceed workgroup memory in tiles of 128 × 128.
fn on_matrices(c: &Choice<'_>) -> bool {
    possible(c) && (c.get("HIGH") == 0 || c.get("TILE") == 64)
}
const fn coop(name: &'static str, source: &'static str, consts: &'static [Const]) -> Kernel {
    let kernel = Kernel::new::<Conv2d>(name, source, PRODUCT).consts(consts).admits(on_matrices);
    kernel.needs(Needs::COOP).rounds().least(work)
}
pub(super) const COOP16: Kernel = coop(
    "conv2d_coop.product16",
    wgsl!(
        "conv2d_coop",
        "../matmul_coop",
        "grid",
        "half",
        "element",
        "conv2d",
        "operands",
        "patches",
        "results",
        "coop16",
        "product16"
    ),
    CONSTS16,
);
pub(super) const COOP8: Kernel = coop(
    "conv2d_coop.product8",
    wgsl!(
        "conv2d_coop",
        "../matmul_coop",
        "grid",
        "half",
        "element",
        "conv2d",
        "operands",
        "patches",
        "results",
        "coop8",
        "product8"
    ),
    CONSTS8,
);
pub(super) const COMBINE: Kernel = Kernel::new::<Conv2d>(
    "conv2d.combine",
    SRC,
    &[read(3, "bias"), read(4, "residual"), write(5, "c"), read(6, "part")],
)
.consts(OTHER_CONSTS)
.rounds();
pub(super) const PACK: Kernel =
    Kernel::new::<Conv2d>("conv2d.pack", SRC, &[read(7, "weight"), write(8, "packed")]).consts(OTHER_CONSTS).rounds();

/// Least work of a product: each operand is read and each result is written once. Of dx, terms are counted as y's are.
fn work(launch: &LaunchArgs<'_>) -> Work {
    let p: Conv2d = launch.scalars();
    let [m, n, k, splits] = [p.m, p.n, p.k, p.splits].map(|size| size as usize);
    let batch = p.batch as usize;
    let dw = launch.constant("FORM") == Form::Tn as usize;
    let dx = launch.constant("FORM") == Form::Nn as usize;
    let pixels = if dw { k } else { m };
    let bytes = |constant: &str| launch.bytes_of(constant);
    let source = pixels / (p.rows * p.cols).max(1) as usize * (p.h * p.w * p.c) as usize;
    let (result, terms) = if dx {
        let groups = batch / (p.stride_y * p.stride_x) as usize;
        let pixels = m / (p.rows * p.cols).max(1) as usize * (p.out_h * p.out_w) as usize;
        (pixels * groups * n, source * (p.kh * p.kw) as usize * n)
    } else {
        (batch * m * n * splits, batch * m * n * k)
    };
    let operands = match dw {
        true => source * bytes("B16") + batch * m * k * bytes("A16"),
        false => source * bytes("A16") + launch.len("b") * bytes("B16"),
    };
    let added = 4 * (p.n * p.batch * p.has_bias) as usize + result * p.has_residual as usize * bytes("R16");
    Work::of(operands + added + result * bytes("C16"), 2 * terms, 0)
}

/// A copy of w (m, channels, taps) as (m, taps, channels).
pub(super) fn packed(r: &mut Recorder, w: &Tensor, [m, channels, taps]: [usize; 3]) -> Result<Tensor> {
    if taps == 1 || channels == 1 {
        return Ok(w.clone());
    }
    let packed = Tensor::scratch("conv2d packed weights", &[m, taps, channels]);
    let p = scalars!(Conv2d { m, cg: channels, kh: taps, kw: 1, ..bytemuck::Zeroable::zeroed() });
    r.launch(&PACK, Grid::items(w.len(), 256), &p, &[w, &packed])?;
    Ok(packed)
}

/// A copy of w with a matrix for each group and phase of dx, the product `p`.
fn packed_by_phases(r: &mut Recorder, w: &Tensor, p: &Conv2d) -> Result<Tensor> {
    if p.kh * p.kw == 1 {
        return Ok(w.clone());
    }
    let packed = Tensor::scratch("conv2d packed weights", &[w.len()]);
    r.launch_with(&PACK, &[("FORM", Form::Nn as u32)], Grid::items(w.len(), 256), p, &[w, &packed])?;
    Ok(packed)
}

/// Longest part of a sum, so that llvmpipe, which ends loops early, adds all terms.
const PART: usize = 32_768;
/// Least part of a sum. Parts fill the GPU also where maps are small, as they are in a ResNet's last stages.
const LEAST: usize = 64;
/// k_split is a multiple of it, or of [`KS`] on cooperative matrices.
const STEP: usize = 16;

impl Conv2d {
    /// What y, dx and dw have in common.
    fn of(s: &Shape) -> Self {
        let ([kh, kw], [stride_y, stride_x], [top, left]) = (s.kernel, s.stride, s.before);
        let [dilation_y, dilation_x] = s.dilation;
        scalars!(Conv2d {
            batch: s.groups,
            splits: 1,
            kh,
            kw,
            stride_y,
            stride_x,
            dilation_y,
            dilation_x,
            top,
            left,
            out_h: s.size[0],
            out_w: s.size[1],
            ..bytemuck::Zeroable::zeroed()
        })
    }

    /// A product that gathers x for the pixels of y: y or dw.
    fn of_x(s: &Shape) -> Self {
        let ([rows, cols], [h, w]) = (s.out, s.size);
        scalars!(Conv2d { rows, cols, h, w, c: s.c, cg: s.c / s.groups, ..Self::of(s) })
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
        k,
        lda: 1,
        ldb: k,
        a_stride: s.pixels(),
        b_stride: og * k,
        k_split: k,
        has_bias: bias.is_some(),
        ldc: s.o,
        ..Conv2d::of_x(s)
    });
    launch(r, Form::Nt, &[cg], og % 4 == 0, &p, &[Some(x), Some(&w), bias, None, Some(y)])
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
    let dx = if before.is_some() { x.data.scratch_like("gradient", x.data.shape()) } else { grads.alloc(x) };
    input(r, s, dy, &w.data, [None, before.as_ref()], &dx)?;
    grads.add(r, x, dx)
}

/// Writes dx, plus a bias (C) and a map like dx.
pub(super) fn input(
    r: &mut Recorder, s: &Shape, dy: &Tensor, w: &Tensor, [bias, residual]: [Option<&Tensor>; 2], dx: &Tensor,
) -> Result<()> {
    let (cg, og) = (s.c / s.groups, s.o / s.groups);
    let largest = [0, 1].map(|i| s.size[i].div_ceil(s.stride[i])); // phase, and its number of taps
    let taps = [0, 1].map(|i| s.kernel[i].div_ceil(s.stride[i]));
    let (m, k) = (s.b * largest[0] * largest[1], taps[0] * taps[1] * og);
    let p = scalars!(Conv2d {
        batch: s.groups * s.stride[0] * s.stride[1],
        m,
        n: cg,
        k,
        lda: 1,
        ldb: cg,
        a_stride: m,
        b_stride: 0, // lib/conv2d finds the weights of a phase
        k_split: k,
        has_bias: bias.is_some(),
        has_residual: residual.is_some(),
        ldc: s.c,
        rows: largest[0],
        cols: largest[1],
        h: s.rows(),
        w: s.cols(),
        c: s.o,
        cg: og,
        ..Conv2d::of(s)
    });
    let w = packed_by_phases(r, w, &p)?;
    launch(r, Form::Nn, &[cg, og], cg % 4 == 0, &p, &[Some(dy), Some(&w), bias, residual, Some(dx)])
}

/// Writes dw.
pub(super) fn weights(r: &mut Recorder, s: &Shape, x: &Tensor, dy: &Tensor, dw: &Tensor) -> Result<()> {
    let (cg, og) = (s.c / s.groups, s.o / s.groups);
    let (n, k) = (s.taps() * cg, s.pixels());
    let p = scalars!(Conv2d { m: og, n, k, lda: s.o, ldb: 1, a_stride: og, b_stride: k, ..Conv2d::of_x(s) });
    let channels = [cg, og];
    let step = if matches!(route(r, Form::Tn, &p), Route::Coop(_)) { KS } else { STEP };
    let tiles = og.div_ceil(64) * n.div_ceil(64) * s.groups;
    let fill = if r.caps().software { 1 } else { (BUSY / tiles).min(k / LEAST).max(1) };
    let k_split = k.div_ceil(fill.max(k.div_ceil(PART))).next_multiple_of(step);
    let splits = k.div_ceil(k_split);
    let p = scalars!(Conv2d { splits, k_split, ..p });
    if splits == 1 {
        return launch(r, Form::Tn, &channels, false, &p, &[Some(dy), Some(x), None, None, Some(dw)]);
    }
    let part = Tensor::scratch("conv2d.part", &[splits, s.groups, og, n]);
    launch(r, Form::Tn, &channels, n % 4 == 0, &p, &[Some(dy), Some(x), None, None, Some(&part)])?;
    let grid = Grid::items(s.o * n / if n % 4 == 0 { 4 } else { 1 }, 256);
    let none: Option<&Tensor> = None;
    r.launch_with(&COMBINE, &[("C4", u32::from(n % 4 == 0))], grid, &p, &[none, none, Some(dw), Some(&part)])
}

/// How a product is computed: as a dense one of its sizes, on a grid that has enough workgroups.
fn route(r: &Recorder, form: Form, p: &Conv2d) -> Route {
    // a large batch of large maps has more tiles of 64 rows than a grid has workgroups
    let many = (p.m as usize).div_ceil(64) > 65_535;
    match best(r, r.precision(), &p.gemm(form)).path {
        Route::Coop(64) if many && r.precision() == Precision::Mixed => Route::Coop(128),
        Route::Coop(64) | Route::Tiled(..) if many => Route::Tiled(128, 64),
        route => route,
    }
}

/// Launches a product. `channels` are those of a group in the operands whose rows they are: as far as they are
/// multiples of 4 or 8, that many are loaded at a time. `c4`: whether results are stored four at a time.
fn launch(
    r: &mut Recorder, form: Form, channels: &[usize], c4: bool, p: &Conv2d, args: &[Option<&Tensor>; 5],
) -> Result<()> {
    let whole = |many: usize| u32::from(channels.iter().all(|channels| channels % many == 0));
    let last = u32::from(form == Form::Tn && p.splits == 1);
    let mut consts = vec![("FORM", form as u32), ("C4", u32::from(c4)), ("LAST", last)];
    let round = ("ROUND", u32::from(r.precision() == Precision::Mixed));
    let (kernel, tile) = match route(r, form, p) {
        Route::Tiled(rows, cols) => {
            consts.extend([("VEC", whole(4)), round, ("TILE_M", rows as u32), ("TILE_N", cols as u32)]);
            (&TILED, [rows, cols])
        }
        Route::Direct(rows, cols) => {
            consts.extend([("VEC", whole(4)), round, ("ROWS", rows as u32), ("COLS", cols as u32)]);
            (&DIRECT, [rows, 16 * cols])
        }
        Route::Coop(side) => {
            let high = ("HIGH", u32::from(r.precision() == Precision::High));
            let lanes = ("LANES", r.caps().coop_lanes);
            consts.extend([("VEC", whole(4) + whole(8)), lanes, ("TILE", side as u32), high]);
            (if r.caps().fragment == 8 { &COOP8 } else { &COOP16 }, [side; 2])
        }
    };
    let grid =
        Grid::of((p.n as usize).div_ceil(tile[1]), (p.m as usize).div_ceil(tile[0]), (p.batch * p.splits) as usize);
    r.launch_with(kernel, &consts, grid, p, args)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Caps, Gpu};
    use crate::ops::conv2d::Conv2dOptions;

    /// Parts of dw in the 3×3 convolutions of a ResNet-50, at batch 8 and 64 pixels, and at batch 128 and 224 pixels.
    #[test]
    fn parts_of_dw_fill_a_gpu() -> Result<()> {
        let g = Gpu::dry(Caps { max_binding: 1 << 31, ..Caps::portable() });
        let small = [(8, 16, 64, 32), (8, 8, 128, 8), (8, 4, 256, 2), (8, 2, 512, 1)];
        let large = [(128, 56, 64, 56), (128, 28, 128, 14), (128, 14, 256, 3), (128, 7, 512, 1)];
        for (b, side, c, splits) in small.into_iter().chain(large) {
            let options = Conv2dOptions { padding: [1; 4], ..Conv2dOptions::default() };
            let shape = Shape::new("conv2d", [b, side, side, c], [c, c, 3, 3], &options)?;
            let map = |what| Tensor::input(what, &[b, side, side, c]);
            let mut r = Recorder::new(&g);
            weights(&mut r, &shape, &map("x"), &map("dy"), &Tensor::input("dw", &[c, c, 3, 3]))?;
            let recording = r.finish();
            let launch = &recording.launches()[0];
            let p: Conv2d = launch.with_args(|args| args.scalars());
            assert_eq!((p.splits, launch.name()), (splits, "conv2d.tiled"), "{b}×{side}×{side}×{c}");
            assert!(launch.grid.0.iter().product::<u32>() >= 256, "{:?}", launch.grid);
        }
        Ok(())
    }
}

//! resample: maps of another size, channels last. Maths: `shaders/resample.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Choice, Const, Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};

params! {
    /// Scalars of `resample.wgsl`.
    pub(crate) struct Resample { n: u32, side: u32, out: u32, inner: u32 }
}

const CONSTS: &[Const] = &[Const::of("MODE", &[0, 1, 2]), Const::of("VEC", &[1, 0]), Const::flag("HALF")];
/// Maps in f16 are read and stored four elements at a time.
fn in_quads(c: &Choice<'_>) -> bool {
    c.get("HALF") == 0 || c.get("VEC") == 1
}
const BINDS: &[Bind] = &[read(1, "x").f16_if("HALF"), write(2, "y").f16_if("HALF")];
const fn kernel(name: &'static str) -> Kernel {
    let source = wgsl!("resample", "grid", "half", "element");
    Kernel::new::<Resample>(name, source, BINDS).consts(CONSTS).admits(in_quads).rounds()
}
const FORWARD: Kernel = kernel("resample.forward");
const BACKWARD: Kernel = kernel("resample.backward");

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// The largest side: places are fractions of 32-bit numbers, and a lane visits at most all cells of a side.
const LARGEST: usize = 32_768;

/// MODE of `resample.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    HalfPixels,
    Corners,
    Average,
}

/// Maps in another size, interpolated between the four nearest cells.
///
/// Without `align_corners` the edges of both maps lie on each other, and with it the centers of their corner cells. No
/// cells are averaged in a smaller map (`antialias=False`). The result has the element type of x.
///
/// - Shapes: x (B, H, W, C) → (B, `size[0]`, `size[1]`, C).
/// - PyTorch: `F.interpolate(x, size, mode="bilinear", align_corners=align_corners)`, with x (B, C, H, W).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::resample::bilinear, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 1, 2, 1], &[0.0, 4.0])?);
/// let mut r = Recorder::new(g);
/// let y = bilinear(&mut r, &x, [1, 4], false)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [0.0, 1.0, 3.0, 4.0]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [2.0, 2.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If a side is 0 or above 32,768, or if x is f16 and C is no multiple of 4.
pub fn bilinear(r: &mut Recorder, x: &Var, size: [usize; 2], align_corners: bool) -> Result<Var> {
    both(r, "bilinear", x, size, if align_corners { Mode::Corners } else { Mode::HalfPixels })
}

/// The averages of maps over H'×W' bins. Bins overlap where H' does not divide H. The result has the element type of x.
///
/// - Shapes: x (B, H, W, C) → (B, `size[0]`, `size[1]`, C).
/// - PyTorch: `F.adaptive_avg_pool2d(x, size)`, with x (B, C, H, W).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::resample::adaptive_average, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 1, 3, 1], &[1.0, 3.0, 7.0])?);
/// let mut r = Recorder::new(g);
/// let y = adaptive_average(&mut r, &x, [1, 2])?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [2.0, 5.0]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [0.5, 1.0, 0.5]); // both bins hold the middle cell
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If a side is 0 or above 32,768, or if x is f16 and C is no multiple of 4.
pub fn adaptive_average(r: &mut Recorder, x: &Var, size: [usize; 2]) -> Result<Var> {
    both(r, "adaptive_average", x, size, Mode::Average)
}

/// Rows, then columns. A side that stays as it is costs no launch.
fn both(r: &mut Recorder, op: &str, x: &Var, [out_h, out_w]: [usize; 2], mode: Mode) -> Result<Var> {
    let [b, h, w, c] = x.data.dims(&format!("{op}: x"))?;
    if x.data.is_empty() || [h, w, out_h, out_w].iter().any(|side| !(1..=LARGEST).contains(side)) {
        let got = format!("{h}×{w} to {out_h}×{out_w}");
        return Err(Error::argument(format!("{op}: size"), got, format!("sides of 1 to {LARGEST}")));
    }
    if x.data.is_f16() && !c.is_multiple_of(4) {
        return Err(Error::argument(format!("{op}: channels in f16"), c, "a multiple of 4"));
    }
    let x = along(r, x, mode, [b, h, w * c], out_h, &[b, out_h, w, c])?;
    along(r, &x, mode, [b * out_h, w, c], out_w, &[b, out_h, out_w, c])
}

/// x as (outer, side, inner) → (outer, out, inner), which is `shape`.
fn along(
    r: &mut Recorder, x: &Var, mode: Mode, [outer, side, inner]: [usize; 3], out: usize, shape: &[usize],
) -> Result<Var> {
    if side == out {
        return Ok(x.clone());
    }
    let lanes = if inner.is_multiple_of(4) { 4 } else { 1 };
    let consts = [("MODE", mode as u32), ("VEC", u32::from(lanes == 4))];
    let inner = inner / lanes;
    let n = outer * out * inner;
    let p = scalars!(Resample { n, side, out, inner });
    let y = x.data.scratch_like("resample", shape);
    r.launch_with(&FORWARD, &consts, Grid::items(n, 256), &p, &[&x.data, &y])?;
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let (dx, n) = (grads.alloc(&x), outer * side * inner);
        r.launch_with(&BACKWARD, &consts, Grid::items(n, 256), &scalars!(Resample { n, ..p }), &[dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

//! pool: max pooling and the global average of maps, channels last. Maths: `shaders/pool.wgsl`.

use super::reduce::mean_tokens;
use super::reshape::reshape;
use crate::error::{Error, Result};
use crate::gpu::{Bind, Choice, Const, DType, Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `pool.wgsl`.
    pub(crate) struct Pool {
        n: u32, words: u32, c: u32, h: u32, w: u32, out_h: u32, out_w: u32,
        kh: u32, kw: u32, stride_y: u32, stride_x: u32, pad_y: u32, pad_x: u32,
    }
}

const CONSTS: &[Const] = &[Const::of("VEC", &[1, 0]), Const::flag("HALF")];
/// Maps in f16 are stored four channels at a time.
fn in_quads(c: &Choice<'_>) -> bool {
    c.get("HALF") == 0 || c.get("VEC") == 1
}
const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<Pool>(name, wgsl!("pool", "grid", "half", "element"), binds).consts(CONSTS).admits(in_quads).rounds()
}
const FORWARD: Kernel =
    kernel("pool.forward", &[read(1, "x").f16_if("HALF"), write(2, "y").f16_if("HALF"), write(3, "best").u32()]);
const BACKWARD: Kernel = kernel(
    "pool.backward",
    &[read(4, "saved_best").u32(), read(5, "dy").f16_if("HALF"), write(6, "dx").f16_if("HALF")],
);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// The windows of a pooling: rows, then columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Size of a window, at most 255 cells.
    pub kernel: [usize; 2],
    /// Distance between windows.
    pub stride: [usize; 2],
    /// Rows above and below, and columns left and right, that never win. Less than the kernel, so that no window lies
    /// outside of the map.
    pub padding: [usize; 2],
}

impl Windows {
    /// 3×3 windows with stride 2 and padding 1: ResNet's.
    pub const RESNET: Self = Self { kernel: [3; 2], stride: [2; 2], padding: [1; 2] };
}

/// Max pooling of maps, channels last. Of equal maxima the first in row-major order gets the gradient. The result has
/// the element type of x.
///
/// - Shapes: x (B, H, W, C) → (B, H', W', C), H' = ⌊(H + 2·padding − kernel)/stride⌋ + 1, and W' likewise.
/// - PyTorch: `F.max_pool2d(x, kernel, stride, padding)`, with x (B, C, H, W).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::pool::{Windows, max_pool}, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 1, 4, 1], &[-1.0, 5.0, 5.0, 2.0])?); // one row of four pixels
/// let mut r = Recorder::new(g);
/// let y = max_pool(&mut r, &x, Windows { kernel: [1, 3], stride: [1, 2], padding: [0, 1] })?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [5.0, 5.0]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [0.0, 2.0, 0.0, 0.0]); // the tie goes to the first
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If a window has no or more than 255 cells, if the stride is 0, if the padding is not less than the kernel, or if a
/// window does not fit into the padded map, or if x is f16 and C is no multiple of 4.
pub fn max_pool(r: &mut Recorder, x: &Var, windows: Windows) -> Result<Var> {
    let [b, h, w, c] = x.data.dims("max_pool: x")?;
    let Windows { kernel: [kh, kw], stride, padding } = windows;
    let fits = |i: usize, side: usize| {
        padding[i] < windows.kernel[i] && stride[i] > 0 && side + 2 * padding[i] >= windows.kernel[i]
    };
    if x.data.is_empty() || kh * kw > 255 || !fits(0, h) || !fits(1, w) {
        let expected = format!("1 to 255 cells, padding below the kernel, and windows that fit into {h}×{w}");
        return Err(Error::argument("max_pool: windows", format!("{windows:?}"), expected));
    }
    if x.data.is_f16() && !c.is_multiple_of(4) {
        return Err(Error::argument("max_pool: channels in f16", c, "a multiple of 4"));
    }
    let out = |i: usize, side: usize| (side + 2 * padding[i] - windows.kernel[i]) / stride[i] + 1;
    let (out_h, out_w, words) = (out(0, h), out(1, w), c.div_ceil(4));
    let n = b * out_h * out_w * words;
    let [[stride_y, stride_x], [pad_y, pad_x]] = [stride, padding];
    let p = scalars!(Pool { n, words, c, h, w, out_h, out_w, kh, kw, stride_y, stride_x, pad_y, pad_x });
    let consts = [("VEC", u32::from(c % 4 == 0))];
    let y = x.data.scratch_like("max pool", &[b, out_h, out_w, c]);
    let best = Tensor::scratch_of(DType::U32, "max pool places", &[n]);
    r.launch_with(&FORWARD, &consts, Grid::items(n, 256), &p, &[&x.data, &y, &best])?;
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        let n = b * h * w * words;
        r.launch_with(&BACKWARD, &consts, Grid::items(n, 256), &scalars!(Pool { n, ..p }), &[&best, dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

/// The mean over all pixels of each map.
///
/// - Shapes: x (B, H, W, C) → (B, C).
/// - PyTorch: `F.adaptive_avg_pool2d(x, 1).flatten(1)`, with x (B, C, H, W).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::pool::global_average, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 1, 2, 2], &[1.0, 10.0, 3.0, 20.0])?);
/// let mut r = Recorder::inference(g);
/// let y = global_average(&mut r, &x)?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [2.0, 15.0]);
/// # Ok(()) });
/// ```
pub fn global_average(r: &mut Recorder, x: &Var) -> Result<Var> {
    let [b, h, w, c] = x.data.dims("global_average: x")?;
    let tokens = reshape(r, x, &[b, h * w, c])?;
    mean_tokens(r, &tokens)
}

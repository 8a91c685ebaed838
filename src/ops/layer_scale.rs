//! layer_scale: a residual branch with layer scale and DropPath. Maths: `shaders/layer_scale.wgsl`.

use super::parts::{Rows, sum_parts};
use crate::error::{Error, Result};
use crate::gpu::{Bind, Const, Grid, Kernel, Work, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `layer_scale.wgsl`.
    pub(crate) struct LayerScale { rows: u32, c: u32, l: u32, chunk: u32, chunks: u32 }
}

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    const CONSTS: &[Const] = &[Const::flag("X16"), Const::flag("H16")];
    Kernel::new::<LayerScale>(name, wgsl!("layer_scale", "grid", "half", "element"), binds).consts(CONSTS).rounds()
}
const FORWARD: Kernel = kernel(
    "layer_scale.forward",
    &[read(1, "x").f16_if("X16"), read(2, "h").f16_if("H16"), read(3, "gamma"), read(4, "drop_path"), write(5, "y")],
)
.least(|x| Work { bytes: x.bytes, ..Work::of(0, 3 * x.len("x"), 0) });
const BACKWARD: Kernel = kernel(
    "layer_scale.backward",
    &[
        read(2, "h").f16_if("H16"),
        read(3, "gamma"),
        read(4, "drop_path"),
        read(6, "dy"),
        write(7, "dh").f16_if("H16"),
        write(8, "part"),
    ],
)
.least(|x| Work { bytes: x.bytes, ..Work::of(0, 4 * x.len("h"), 0) });

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// Lanes of the backward pass that keep a GPU busy.
const LANES: usize = 131_072;

/// The sum x + `drop_path`·gamma·h: a residual branch h whose channels are scaled, with DropPath.
///
/// `drop_path` holds a factor for each sample, which [`rng::drop_path`](super::rng::drop_path) draws: 0 where the
/// sample drops the branch, else 1/(1 − p). Without it the factor is 1.
///
/// The sum is f32, also where x and h are f16: so is PyTorch's, because gamma is f32. h in f16 needs an even C.
///
/// - Shapes: x and h (B, .., C), gamma (C), `drop_path` (B) → the shape of x. If `drop_path` has another length, that
///   length divides the rows, as for windows (B·windows, L, C).
/// - timm: `x + drop_path(h * gamma)`.
/// - Source: Touvron et al. 2021 (CaiT).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::layer_scale::layer_scale, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[2, 2], &[1.0, 2.0, 3.0, 4.0])?);
/// let h = Var::leaf(Tensor::from_slice(g, &[2, 2], &[1.0, 1.0, 1.0, 2.0])?);
/// let gamma = Var::leaf(Tensor::from_slice(g, &[2], &[0.5, 0.25])?);
/// let drop_path = Tensor::from_slice(g, &[2], &[0.0, 2.0])?; // p = 0.5: the first sample drops h
/// let mut r = Recorder::new(g);
/// let y = layer_scale(&mut r, &x, &h, &gamma, Some(&drop_path))?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [1.0, 2.0, 4.0, 5.0]);
/// assert_eq!(grads.get(&gamma).unwrap().to_vec(g)?, [2.0, 4.0]);
/// # Ok(()) });
/// ```
pub fn layer_scale(r: &mut Recorder, x: &Var, h: &Var, gamma: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
    let shape = x.data.shape();
    let (rows, c) = x.data.rows_cols();
    h.data.expect_shape("layer_scale: h", shape)?;
    gamma.data.expect_shape("layer_scale: gamma", &[c])?;
    let samples = drop_path.map_or(1, Tensor::len);
    if x.data.is_empty() || samples == 0 || rows % samples != 0 {
        let expected = format!("one factor per sample of {shape:?}");
        return Err(Error::argument("layer_scale: drop_path", samples, expected));
    }
    if h.data.is_f16() && !c.is_multiple_of(2) {
        return Err(Error::argument("layer_scale: channels of h in f16", c, "an even number"));
    }
    let l = if drop_path.is_some() { rows / samples } else { 0 };
    let chunk = (rows * c).div_ceil(LANES).clamp(8.min(rows), rows);
    let chunks = rows.div_ceil(chunk);
    let p = scalars!(LayerScale { rows, c, l, chunk, chunks });
    let y = Tensor::scratch("layer scale", shape);
    let args = [Some(&x.data), Some(&h.data), Some(&gamma.data), drop_path, Some(&y)];
    r.launch(&FORWARD, Grid::items(rows * c, 256), &p, &args)?;
    let drop_path = drop_path.cloned();
    Ok(r.push((x, h, gamma), y, move |r, (x, h, gamma), dy, grads| {
        if grads.wants(&h) || grads.wants(&gamma) {
            let (dh, part) = (grads.alloc(&h), Tensor::scratch("layer scale sums", &[chunks, c]));
            let args = [Some(&h.data), Some(&gamma.data), drop_path.as_ref(), Some(dy), Some(&dh), Some(&part)];
            let lanes = if h.data.is_f16() { chunks * c / 2 } else { chunks * c };
            r.launch(&BACKWARD, Grid::items(lanes, 64), &p, &args)?;
            grads.add(r, &h, dh)?;
            if grads.wants(&gamma) {
                let dgamma = grads.alloc(&gamma);
                sum_parts(r, &part, Rows::dense(chunks, c), &dgamma)?;
                grads.add(r, &gamma, dgamma)?;
            }
        }
        grads.add(r, &x, dy.clone()) // last, because dy may become dx without a copy
    }))
}

//! max_concat: the maximum over a set of points beside each point. Maths: `shaders/max_concat.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Const, DType, Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `max_concat.wgsl`.
    pub(crate) struct MaxConcat { n: u32, words: u32, k: u32, c: u32 }
}

const CONSTS: &[Const] = &[Const::of("VEC", &[1, 0])];
const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<MaxConcat>(name, wgsl!("max_concat", "grid"), binds).consts(CONSTS)
}
const FORWARD: Kernel = kernel("max_concat.forward", &[read(1, "x"), write(2, "y"), write(3, "best").u32()]);
const BACKWARD: Kernel = kernel("max_concat.backward", &[read(4, "saved_best").u32(), read(5, "dy"), write(6, "dx")]);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// The maximum over each set of points beside each of its points: what a PointNet joins before its second layers. Of
/// equal maxima the first gets the gradient.
///
/// - Shapes: x (R, K, C) → (R, K, 2C): first the maxima, then x.
/// - PyTorch: `torch.cat([x.max(1, keepdim=True).values.expand_as(x), x], -1)`.
/// - Source: Qi et al. 2017 (PointNet).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::max_concat::max_concat, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 2, 2], &[1.0, 6.0, 3.0, 4.0])?); // two points of two channels
/// let mut r = Recorder::new(g);
/// let y = max_concat(&mut r, &x)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [3.0, 6.0, 1.0, 6.0, 3.0, 6.0, 3.0, 4.0]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [1.0, 3.0, 3.0, 1.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If x is empty, or if a set has more than 255 points.
pub fn max_concat(r: &mut Recorder, x: &Var) -> Result<Var> {
    let [sets, k, c] = x.data.dims("max_concat: x")?;
    if x.data.is_empty() || k > 255 {
        let got = format!("{:?}", x.data.shape());
        return Err(Error::argument("max_concat: x", got, "(R, K, C), not empty, at most 255 points K a set"));
    }
    let words = c.div_ceil(4);
    let p = scalars!(MaxConcat { n: sets * words, words, k, c });
    let (grid, consts) = (Grid::items(sets * words, 64), [("VEC", u32::from(c % 4 == 0))]);
    let y = Tensor::scratch("max concat", &[sets, k, 2 * c]);
    let best = Tensor::scratch_of(DType::U32, "max concat places", &[sets, words]);
    r.launch_with(&FORWARD, &consts, grid, &p, &[&x.data, &y, &best])?;
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        r.launch_with(&BACKWARD, &consts, grid, &p, &[&best, dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

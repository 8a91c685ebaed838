//! pick: one channel of each sample. Maths: `shaders/pick.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel, Work, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `pick.wgsl`.
    pub(crate) struct Pick { n: u32, points: u32, k: u32 }
}

const SRC: &str = wgsl!("pick", "grid");
const FORWARD: Kernel =
    Kernel::new::<Pick>("pick.forward", SRC, &[read(1, "x"), read(2, "index").u32(), write(3, "y")])
        .least(|x| Work::bytes(8 * x.len("y")));
const BACKWARD: Kernel =
    Kernel::new::<Pick>("pick.backward", SRC, &[read(2, "index").u32(), read(4, "dy"), write(5, "dx")]);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// One channel of each sample, which its index names. An index that is not below K gives zeros.
///
/// - Shapes: x (R, .., K), `index` (R) of u32 → (R, ..).
/// - PyTorch: `x[torch.arange(R), ..., index]`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::pick::pick, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[2, 1, 2], &[1.0, 2.0, 3.0, 4.0])?);
/// let index = Tensor::from_indices(g, &[2], &[1, 0])?;
/// let mut r = Recorder::new(g);
/// let y = pick(&mut r, &x, &index)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [2.0, 3.0]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [0.0, 1.0, 1.0, 0.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If x is empty or f16, or if there is not one index for each sample.
pub fn pick(r: &mut Recorder, x: &Var, index: &Tensor) -> Result<Var> {
    let shape = x.data.shape();
    if x.data.is_empty() || x.data.is_f16() || shape.len() < 2 {
        let got = format!("{:?} {shape:?}", x.data.dtype());
        return Err(Error::argument("pick: x", got, "F32 (R, .., K), not empty"));
    }
    index.expect_shape("pick: index", &shape[..1])?;
    let (k, n, elements) = (x.data.rows_cols().1, x.data.rows_cols().0, x.data.len());
    let p = scalars!(Pick { n, points: n / shape[0], k });
    let y = Tensor::scratch("pick", &shape[..shape.len() - 1]);
    r.launch(&FORWARD, Grid::items(n, 256), &p, &[&x.data, index, &y])?;
    let index = index.clone();
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        r.launch(&BACKWARD, Grid::items(elements, 256), &scalars!(Pick { n: elements, ..p }), &[&index, dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

//! add: the sum of two tensors, and the sum with DropPath on one of them. Maths: `shaders/add.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `add.wgsl`.
    pub(crate) struct Add { n: u32, per: u32 }
}

const SRC: &str = wgsl!("add", "grid");
const FORWARD: Kernel = Kernel::new::<Add>("add.forward", SRC, &[read(1, "a"), read(2, "b"), write(3, "y")]);
const DROP_PATH: Kernel = Kernel::new::<Add>(
    "add.drop_path_forward",
    SRC,
    &[read(1, "a"), read(2, "b"), read(4, "drop_path"), write(3, "y")],
);
const DROP_PATH_BACKWARD: Kernel =
    Kernel::new::<Add>("add.drop_path_backward", SRC, &[read(1, "a"), read(4, "drop_path"), write(3, "y")]);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &DROP_PATH, &DROP_PATH_BACKWARD];

/// The sum a + b, element by element, without broadcasting.
///
/// - Shapes: a and b, any one shape → the same.
/// - PyTorch: `a + b`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::add::add, tape::*, tensor::Tensor};
/// let a = Var::leaf(Tensor::from_slice(g, &[2], &[1.0, 2.0])?);
/// let b = Var::leaf(Tensor::from_slice(g, &[2], &[10.0, 20.0])?);
/// let mut r = Recorder::inference(g);
/// let y = add(&mut r, &a, &b)?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [11.0, 22.0]);
/// # Ok(()) });
/// ```
pub fn add(r: &mut Recorder, a: &Var, b: &Var) -> Result<Var> {
    b.data.expect_shape("add: b", a.data.shape())?;
    let y = Tensor::scratch("add", a.data.shape());
    let n = y.len();
    r.launch(&FORWARD, Grid::items(n, 256), &scalars!(Add { n, per: 0 }), &[&a.data, &b.data, &y])?;
    Ok(r.push((a, b), y, move |r, (a, b), dy, grads| {
        grads.add(r, &a, dy.clone())?;
        grads.add(r, &b, dy.clone())
    }))
}

/// The sum a + `drop_path`·b: a residual branch b with DropPath.
///
/// `drop_path` holds a factor for each sample, which [`rng::drop_path`](super::rng::drop_path) draws: 0 where the
/// sample drops the branch, else 1/(1 − p).
///
/// - Shapes: a and b (B, ..), `drop_path` (B) → (B, ..).
/// - timm: `a + drop_path(b)`.
/// - Source: Huang et al. 2016 (stochastic depth).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::add::add_drop_path, tape::*, tensor::Tensor};
/// let a = Var::leaf(Tensor::from_slice(g, &[2, 2], &[1.0, 2.0, 3.0, 4.0])?);
/// let b = Var::leaf(Tensor::from_slice(g, &[2, 2], &[10.0, 20.0, 30.0, 40.0])?);
/// let drop_path = Tensor::from_slice(g, &[2], &[0.0, 2.0])?; // p = 0.5: the first sample drops b
/// let mut r = Recorder::inference(g);
/// let y = add_drop_path(&mut r, &a, &b, &drop_path)?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [1.0, 2.0, 63.0, 84.0]);
/// # Ok(()) });
/// ```
pub fn add_drop_path(r: &mut Recorder, a: &Var, b: &Var, drop_path: &Tensor) -> Result<Var> {
    let shape = a.data.shape();
    b.data.expect_shape("add_drop_path: b", shape)?;
    let samples = shape.first().copied().unwrap_or(1);
    if drop_path.len() != samples || samples == 0 {
        return Err(Error::argument(
            "add_drop_path: drop_path",
            drop_path.len(),
            format!("one per sample of {shape:?}"),
        ));
    }
    let y = Tensor::scratch("add", shape);
    let p = scalars!(Add { n: y.len(), per: y.len() / samples });
    let grid = Grid::items(y.len(), 256);
    r.launch(&DROP_PATH, grid, &p, &[&a.data, &b.data, drop_path, &y])?;
    let drop_path = drop_path.clone();
    Ok(r.push((a, b), y, move |r, (a, b), dy, grads| {
        if grads.wants(&b) {
            let db = grads.alloc(&b);
            r.launch(&DROP_PATH_BACKWARD, grid, &p, &[dy, &drop_path, &db])?;
            grads.add(r, &b, db)?;
        }
        grads.add(r, &a, dy.clone()) // last, because dy may become da without a copy
    }))
}

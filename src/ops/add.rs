//! add: the sum of two tensors, and the sum with DropPath on one of them. Maths: `shaders/add.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Const, DType, Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `add.wgsl`.
    pub(crate) struct Add { n: u32, per: u32 }
}

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    const CONSTS: &[Const] = &[Const::flag("A16"), Const::flag("B16"), Const::flag("Y16")];
    Kernel::new::<Add>(name, wgsl!("add", "grid", "half", "element"), binds).consts(CONSTS).rounds()
}
const A: Bind = read(1, "a").f16_if("A16");
const B: Bind = read(2, "b").f16_if("B16");
const Y: Bind = write(3, "y").f16_if("Y16");
const FORWARD: Kernel = kernel("add.forward", &[A, B, Y]);
const DROP_PATH: Kernel = kernel("add.drop_path_forward", &[A, B, read(4, "drop_path"), Y]);
const DROP_PATH_BACKWARD: Kernel = kernel("add.drop_path_backward", &[A, read(4, "drop_path"), Y]);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &DROP_PATH, &DROP_PATH_BACKWARD];

/// The sum a + b, element by element, without broadcasting. It is f16 if both summands are, as in PyTorch, else f32.
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
    let y = sum_of(a, b, a.data.len())?;
    let n = y.len();
    r.launch(&FORWARD, items(&y), &scalars!(Add { n, per: 0 }), &[&a.data, &b.data, &y])?;
    Ok(r.push((a, b), y, move |r, (a, b), dy, grads| {
        grads.add(r, &a, dy.clone())?;
        grads.add(r, &b, dy.clone())
    }))
}

/// The sum a + `drop_path`·b: a residual branch b with DropPath. Its element type is that of [`add`].
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
    let per = a.data.len() / samples;
    let y = sum_of(a, b, per)?;
    let p = scalars!(Add { n: y.len(), per });
    r.launch(&DROP_PATH, items(&y), &p, &[&a.data, &b.data, drop_path, &y])?;
    let drop_path = drop_path.clone();
    Ok(r.push((a, b), y, move |r, (a, b), dy, grads| {
        if grads.wants(&b) {
            let db = grads.alloc(&b);
            r.launch(&DROP_PATH_BACKWARD, items(&db), &p, &[dy, &drop_path, &db])?;
            grads.add(r, &b, db)?;
        }
        grads.add(r, &a, dy.clone()) // last, because dy may become da without a copy
    }))
}

/// The sum's memory. `per` elements have the same factor of DropPath.
fn sum_of(a: &Var, b: &Var, per: usize) -> Result<Tensor> {
    let halves = [a, b].map(|v| v.data.is_f16());
    if halves.contains(&true) && !per.is_multiple_of(2) {
        return Err(Error::argument("add: elements in f16", per, "an even number"));
    }
    Ok(Tensor::scratch_of(DType::f16_if(halves == [true; 2]), "add", a.data.shape()))
}

/// An invocation for each word.
fn items(y: &Tensor) -> Grid {
    Grid::items(if y.is_f16() { y.len() / 2 } else { y.len() }, 256)
}

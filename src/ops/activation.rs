//! activation: GELU, SiLU, softplus and ReLU, element by element. Maths: `shaders/activation.wgsl`.
//!
//! A result has the element type of x. f16 needs a multiple of four elements.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Const, Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `activation.wgsl`.
    pub(crate) struct Activation { n: u32 }
}

const SRC: &str = wgsl!("activation", "grid", "math", "half", "element");
const FORWARD: &[Bind] = &[read(1, "x").f16_if("HALF"), write(2, "y").f16_if("HALF")];
const BACKWARD: &[Bind] = &[read(1, "x").f16_if("HALF"), read(3, "dy").f16_if("HALF"), write(4, "dx").f16_if("HALF")];
const CONSTS: &[Const] = &[Const::flag("HALF")];

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<Activation>(name, SRC, binds).consts(CONSTS).rounds().least(elements)
}

const GELU: Kernel = kernel("activation.gelu_forward", FORWARD);
const GELU_BACKWARD: Kernel = kernel("activation.gelu_backward", BACKWARD);
const GELU_TANH: Kernel = kernel("activation.gelu_tanh_forward", FORWARD);
const GELU_TANH_BACKWARD: Kernel = kernel("activation.gelu_tanh_backward", BACKWARD);
const SILU: Kernel = kernel("activation.silu_forward", FORWARD);
const SILU_BACKWARD: Kernel = kernel("activation.silu_backward", BACKWARD);
const SOFTPLUS: Kernel = kernel("activation.softplus_forward", FORWARD);
const SOFTPLUS_BACKWARD: Kernel = kernel("activation.softplus_backward", BACKWARD);
const RELU: Kernel = kernel("activation.relu_forward", FORWARD);
const RELU_BACKWARD: Kernel = kernel("activation.relu_backward", BACKWARD);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[
    &GELU,
    &GELU_BACKWARD,
    &GELU_TANH,
    &GELU_TANH_BACKWARD,
    &SILU,
    &SILU_BACKWARD,
    &SOFTPLUS,
    &SOFTPLUS_BACKWARD,
    &RELU,
    &RELU_BACKWARD,
];

/// Each array is moved once, and each element takes one exponential.
fn elements(launch: &LaunchArgs<'_>) -> Work {
    Work { bytes: launch.bytes, ..Work::of(0, 0, launch.len("x")) }
}

/// GELU, exact: x·Φ(x), where Φ is the distribution function of the standard normal.
///
/// - Shapes: x, any → the same.
/// - PyTorch: `F.gelu(x)`.
/// - Source: Hendrycks and Gimpel 2016.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::activation::gelu, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[3], &[-1.0, 0.0, 1.0])?);
/// let mut r = Recorder::inference(g);
/// let y = gelu(&mut r, &x)?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[-0.1587, 0.0, 0.8413], 1e-4); // Φ(1) = 0.8413
/// # Ok(()) });
/// ```
pub fn gelu(r: &mut Recorder, x: &Var) -> Result<Var> {
    apply(r, x, &GELU, &GELU_BACKWARD)
}

/// GELU in its tanh form, as in the convolution stages of MambaVision: it differs from [`gelu`] by up to 5e-4.
///
/// - Shapes: x, any → the same.
/// - PyTorch: `F.gelu(x, approximate="tanh")`.
/// - Source: Hendrycks and Gimpel 2016.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::activation::gelu_tanh, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[3], &[-1.0, 0.0, 1.0])?);
/// let mut r = Recorder::inference(g);
/// let y = gelu_tanh(&mut r, &x)?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[-0.1588, 0.0, 0.8412], 1e-4);
/// # Ok(()) });
/// ```
pub fn gelu_tanh(r: &mut Recorder, x: &Var) -> Result<Var> {
    apply(r, x, &GELU_TANH, &GELU_TANH_BACKWARD)
}

/// SiLU, also called Swish: x·σ(x), where σ is the logistic sigmoid.
///
/// - Shapes: x, any → the same.
/// - PyTorch: `F.silu(x)`.
/// - Source: Elfwing et al. 2018.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::activation::silu, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[3], &[-1.0, 0.0, 1.0])?);
/// let mut r = Recorder::inference(g);
/// let y = silu(&mut r, &x)?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[-0.2689, 0.0, 0.7311], 1e-4); // σ(1) = 0.7311
/// # Ok(()) });
/// ```
pub fn silu(r: &mut Recorder, x: &Var) -> Result<Var> {
    apply(r, x, &SILU, &SILU_BACKWARD)
}

/// Softplus: ln(1 + eˣ), and x itself above 20. Its derivative is the logistic sigmoid.
///
/// - Shapes: x, any → the same.
/// - PyTorch: `F.softplus(x)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::activation::softplus, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[2], &[0.0, 30.0])?);
/// let mut r = Recorder::new(g);
/// let y = softplus(&mut r, &x)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[0.6931, 30.0], 1e-4); // ln 2
/// assert_close(&grads.get(&x).unwrap().to_vec(g)?, &[0.5, 1.0], 1e-6);
/// # Ok(()) });
/// ```
pub fn softplus(r: &mut Recorder, x: &Var) -> Result<Var> {
    apply(r, x, &SOFTPLUS, &SOFTPLUS_BACKWARD)
}

/// ReLU: max(x, 0). Its derivative at 0 is 0, as in PyTorch.
///
/// - Shapes: x, any → the same.
/// - PyTorch: `F.relu(x)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::activation::relu, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[3], &[-1.0, 0.0, 2.0])?);
/// let mut r = Recorder::new(g);
/// let y = relu(&mut r, &x)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [0.0, 0.0, 2.0]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [0.0, 0.0, 1.0]);
/// # Ok(()) });
/// ```
pub fn relu(r: &mut Recorder, x: &Var) -> Result<Var> {
    let (p, grid, y) = sizes(x)?;
    r.launch(&RELU, grid, &p, &[&x.data, &y])?;
    let saved = y.clone(); // y is above 0 where x is, and the next layer keeps y anyway
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        r.launch(&RELU_BACKWARD, grid, &p, &[&saved, dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

/// Scalars and grid of a launch for x, and its result.
fn sizes(x: &Var) -> Result<(Activation, Grid, Tensor)> {
    let n = x.data.len();
    if x.data.is_f16() && !n.is_multiple_of(4) {
        return Err(Error::argument("activation: elements in f16", n, "a multiple of 4"));
    }
    let y = x.data.scratch_like("activation", x.data.shape());
    Ok((scalars!(Activation { n }), Grid::items(n.div_ceil(4), 256), y))
}

fn apply(r: &mut Recorder, x: &Var, forward: &'static Kernel, backward: &'static Kernel) -> Result<Var> {
    let (p, grid, y) = sizes(x)?;
    r.launch(forward, grid, &p, &[&x.data, &y])?;
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        r.launch(backward, grid, &p, &[&x.data, dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

//! activation: launcher and tape rule of GELU, SiLU, softplus and ReLU. Maths: `shaders/activation.wgsl`.

use crate::error::Result;
use crate::gpu::{Args, Bind, Grid, Kernel, Work, params, read, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `activation.wgsl`.
    pub struct Activation { n: u32 }
}

const SRC: &str = wgsl!("activation", "grid", "math");
const FORWARD: &[Bind] = &[read(1, "x"), write(2, "y")];
const BACKWARD: &[Bind] = &[read(1, "x"), read(3, "dy"), write(4, "dx")];

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<Activation>(name, SRC, binds).least(elements)
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

/// Each array moved once, an exponential per element.
fn elements(launch: &Args<'_>) -> Work {
    Work { bytes: launch.bytes, ..Work::of(0, 0, launch.len("x")) }
}

/// GELU in its erf form, any shape.
pub fn gelu(r: &mut Recorder, x: &Var) -> Result<Var> {
    apply(r, x, &GELU, &GELU_BACKWARD)
}

/// GELU in its tanh form (MambaVision's convolution stages), any shape.
pub fn gelu_tanh(r: &mut Recorder, x: &Var) -> Result<Var> {
    apply(r, x, &GELU_TANH, &GELU_TANH_BACKWARD)
}

/// x·σ(x), any shape.
pub fn silu(r: &mut Recorder, x: &Var) -> Result<Var> {
    apply(r, x, &SILU, &SILU_BACKWARD)
}

/// ln(1 + eˣ), any shape.
pub fn softplus(r: &mut Recorder, x: &Var) -> Result<Var> {
    apply(r, x, &SOFTPLUS, &SOFTPLUS_BACKWARD)
}

/// max(x, 0), any shape.
pub fn relu(r: &mut Recorder, x: &Var) -> Result<Var> {
    apply(r, x, &RELU, &RELU_BACKWARD)
}

fn apply(r: &mut Recorder, x: &Var, forward: &'static Kernel, backward: &'static Kernel) -> Result<Var> {
    let p = Activation { n: x.data.len() as u32 };
    let grid = Grid::items(x.data.len(), 256);
    let y = Tensor::scratch("activation", x.data.shape());
    r.launch(forward, grid, &p, &[&x.data, &y])?;
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        r.launch(backward, grid, &p, &[&x.data, dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

//! activation: launcher and tape rule of GELU, SiLU and softplus. Maths: `shaders/activation.wgsl`.

use crate::error::Result;
use crate::gpu::{Bind, Gpu, Grid, Kernel, params, wgsl};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `activation.wgsl`.
    pub struct Activation { n: u32 }
}

const SRC: &str = wgsl!("activation", "grid", "math");
const FORWARD: &[Bind] = &[Bind::Read(1), Bind::Write(2)];
const BACKWARD: &[Bind] = &[Bind::Read(1), Bind::Read(3), Bind::Write(4)];

const GELU: Kernel = Kernel::new::<Activation>("activation.gelu_forward", SRC, FORWARD);
const GELU_BACKWARD: Kernel = Kernel::new::<Activation>("activation.gelu_backward", SRC, BACKWARD);
const GELU_TANH: Kernel = Kernel::new::<Activation>("activation.gelu_tanh_forward", SRC, FORWARD);
const GELU_TANH_BACKWARD: Kernel = Kernel::new::<Activation>("activation.gelu_tanh_backward", SRC, BACKWARD);
const SILU: Kernel = Kernel::new::<Activation>("activation.silu_forward", SRC, FORWARD);
const SILU_BACKWARD: Kernel = Kernel::new::<Activation>("activation.silu_backward", SRC, BACKWARD);
const SOFTPLUS: Kernel = Kernel::new::<Activation>("activation.softplus_forward", SRC, FORWARD);
const SOFTPLUS_BACKWARD: Kernel = Kernel::new::<Activation>("activation.softplus_backward", SRC, BACKWARD);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] =
    &[&GELU, &GELU_BACKWARD, &GELU_TANH, &GELU_TANH_BACKWARD, &SILU, &SILU_BACKWARD, &SOFTPLUS, &SOFTPLUS_BACKWARD];

/// GELU in its erf form, any shape.
pub fn gelu(g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
    apply(g, t, x, &GELU, &GELU_BACKWARD)
}

/// GELU in its tanh form (MambaVision's convolution stages), any shape.
pub fn gelu_tanh(g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
    apply(g, t, x, &GELU_TANH, &GELU_TANH_BACKWARD)
}

/// x·σ(x), any shape.
pub fn silu(g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
    apply(g, t, x, &SILU, &SILU_BACKWARD)
}

/// ln(1 + eˣ), any shape.
pub fn softplus(g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
    apply(g, t, x, &SOFTPLUS, &SOFTPLUS_BACKWARD)
}

fn apply(g: &Gpu, t: &mut Tape, x: &Var, forward: &'static Kernel, backward: &'static Kernel) -> Result<Var> {
    let p = Activation { n: x.data.len() as u32 };
    let grid = Grid::items(x.data.len(), 256);
    let y = Tensor::scratch("activation", x.data.shape());
    g.launch(forward, grid, &p, &[&x.data, &y])?;
    let x = x.clone();
    Ok(t.push(g, y, move |g, dy, grads| {
        let dx = grads.alloc(&x);
        g.launch(backward, grid, &p, &[&x.data, dy, &dx])?;
        grads.add(g, &x, dx)
    }))
}

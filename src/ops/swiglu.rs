//! swiglu: the gated layer of a SwiGLU MLP. Maths: `shaders/swiglu.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `swiglu.wgsl`.
    pub(crate) struct Swiglu { n: u32, h: u32 }
}

const SRC: &str = wgsl!("swiglu", "grid", "math");
const FORWARD: Kernel = Kernel::new::<Swiglu>("swiglu.forward", SRC, &[read(1, "x"), write(2, "y")]).least(gates);
const BACKWARD: Kernel =
    Kernel::new::<Swiglu>("swiglu.backward", SRC, &[read(1, "x"), read(3, "dy"), write(4, "dx")]).least(gates);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// Each array is moved once, and each gate takes one exponential.
fn gates(launch: &LaunchArgs<'_>) -> Work {
    Work { bytes: launch.bytes, ..Work::of(0, 0, launch.len("x") / 2) }
}

/// The first half of the channels as a gate of the second: SiLU(a)·b for x = a | b.
///
/// - Shapes: x (.., 2H) → (.., H).
/// - PyTorch: `a, b = x.chunk(2, -1)`, then `F.silu(a) * b`.
/// - Source: Shazeer 2020 (GLU variants).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::swiglu::swiglu, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[2, 2], &[1.0, 2.0, -1.0, 3.0])?);
/// let mut r = Recorder::inference(g);
/// let y = swiglu(&mut r, &x)?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[0.7311 * 2.0, -0.2689 * 3.0], 1e-3); // SiLU of 1 and of -1
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If the number of channels is odd.
pub fn swiglu(r: &mut Recorder, x: &Var) -> Result<Var> {
    let (_, cols) = x.data.rows_cols();
    let mut shape = x.data.shape().to_vec();
    let fits = cols > 0 && cols.is_multiple_of(2) && !x.data.is_empty();
    let (true, Some(last)) = (fits, shape.last_mut()) else {
        return Err(Error::argument("swiglu: x", format!("{:?}", x.data.shape()), "(.., 2H), nothing empty"));
    };
    *last = cols / 2;
    let y = Tensor::scratch("swiglu", &shape);
    let p = scalars!(Swiglu { n: y.len(), h: cols / 2 });
    let grid = Grid::items(y.len(), 256);
    r.launch(&FORWARD, grid, &p, &[&x.data, &y])?;
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        r.launch(&BACKWARD, grid, &p, &[&x.data, dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

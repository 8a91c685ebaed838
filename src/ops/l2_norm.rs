//! l2_norm: rows scaled to unit length. Maths: `shaders/l2_norm.wgsl`.

use super::norm::{ROW_WORKGROUPS, row_consts};
use crate::error::Result;
use crate::gpu::{Const, Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `l2_norm.wgsl`.
    pub(crate) struct L2Norm { rows: u32, d: u32 }
}

const SRC: &str = wgsl!("l2_norm", "grid", "reduce");
const SUBGROUP: &str = wgsl!("l2_norm", "grid", "reduce_subgroup");
const CONSTS: &[Const] = &[Const::of("WG", ROW_WORKGROUPS)];

const FORWARD: Kernel = Kernel::new::<L2Norm>("l2_norm.forward", SRC, &[read(1, "x"), write(2, "y"), write(3, "rate")])
    .subgroup(SUBGROUP)
    .consts(CONSTS);
const BACKWARD: Kernel = Kernel::new::<L2Norm>(
    "l2_norm.backward",
    SRC,
    &[read(4, "saved_y"), read(5, "saved_rate"), read(6, "dy"), write(7, "dx")],
)
.subgroup(SUBGROUP)
.consts(CONSTS);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// Rows scaled to unit length: x/max(‖x‖, 1e-12).
///
/// - Shapes: x (.., D) → the same.
/// - PyTorch: `F.normalize(x, dim=-1)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::l2_norm::l2_norm, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[2, 2], &[3.0, 4.0, 0.0, -2.0])?);
/// let mut r = Recorder::inference(g);
/// let y = l2_norm(&mut r, &x)?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[0.6, 0.8, 0.0, -1.0], 1e-6);
/// # Ok(()) });
/// ```
pub fn l2_norm(r: &mut Recorder, x: &Var) -> Result<Var> {
    let (rows, d) = x.data.rows_cols();
    let (y, rate) = (Tensor::scratch("unit", x.data.shape()), Tensor::scratch("rate", &[rows]));
    let p = scalars!(L2Norm { rows, d });
    let consts = row_consts(r.caps(), d);
    r.launch_with(&FORWARD, &consts, Grid::rows(rows), &p, &[&x.data, &y, &rate])?;
    Ok(r.push(x, y.clone(), move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        r.launch_with(&BACKWARD, &consts, Grid::rows(rows), &p, &[&y, &rate, dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

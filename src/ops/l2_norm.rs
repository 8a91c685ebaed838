//! l2_norm: launcher and tape rule of rows as unit vectors. Maths: `shaders/l2_norm.wgsl`.

use super::rms_norm::{ROW_WORKGROUPS, row_workgroup};
use crate::error::Result;
use crate::gpu::{Const, Gpu, Grid, Kernel, params, read, wgsl, write};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `l2_norm.wgsl`.
    pub struct L2Norm { rows: u32, d: u32 }
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
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// x/‖x‖ of each row, x (.., D).
pub fn l2_norm(g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
    let (rows, d) = x.data.rows_cols();
    let (y, rate) = (Tensor::scratch("unit", x.data.shape()), Tensor::scratch("rate", &[rows]));
    let p = L2Norm { rows: rows as u32, d: d as u32 };
    let consts = [("WG", row_workgroup(g, d) as u32)];
    g.launch_with(&FORWARD, &consts, Grid::rows(rows), &p, &[&x.data, &y, &rate])?;
    let x = x.clone();
    Ok(t.push(g, y.clone(), move |g, dy, grads| {
        if !grads.wants(&x) {
            return Ok(());
        }
        let dx = grads.alloc(&x);
        g.launch_with(&BACKWARD, &consts, Grid::rows(rows), &p, &[&y, &rate, dy, &dx])?;
        grads.add(g, &x, dx)
    }))
}

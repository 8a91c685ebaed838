//! add: launcher and tape rule of a + b. Maths: `shaders/add.wgsl`.

use crate::error::Result;
use crate::gpu::{Bind, Gpu, Grid, Kernel, params, wgsl};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `add.wgsl`.
    pub struct Add { n: u32 }
}

const FORWARD: Kernel =
    Kernel::new::<Add>("add.forward", wgsl!("add", "grid"), &[Bind::Read(1), Bind::Read(2), Bind::Write(3)]);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// a + b, one shape.
pub fn add(g: &Gpu, t: &mut Tape, a: &Var, b: &Var) -> Result<Var> {
    b.data.expect_shape("add: b", a.data.shape())?;
    let y = Tensor::scratch("add", a.data.shape());
    let n = y.len();
    g.launch(&FORWARD, Grid::items(n, 256), &Add { n: n as u32 }, &[&a.data, &b.data, &y])?;
    let (a, b) = (a.clone(), b.clone());
    Ok(t.push(g, y, move |g, dy, grads| {
        // dy moves into at most one of the two: what a variable has collected is updated in place
        let mut moved = false;
        for var in [&a, &b] {
            if !grads.wants(var) {
                continue;
            }
            let first = grads.get(var).is_none();
            if moved && (first || a.id() == b.id()) {
                let own = grads.alloc(var);
                own.copy_from(g, dy)?;
                grads.add(g, var, own)?;
            } else {
                moved |= first;
                grads.add(g, var, dy.clone())?;
            }
        }
        Ok(())
    }))
}

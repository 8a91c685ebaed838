//! scale: launcher and tape rule of c·a for a constant c. Maths: `shaders/scale.wgsl`.

use crate::error::Result;
use crate::gpu::{Grid, Kernel, params, read, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `scale.wgsl`.
    pub struct Scale { n: u32, c: f32 }
}

const FORWARD: Kernel = Kernel::new::<Scale>("scale.forward", wgsl!("scale", "grid"), &[read(1, "a"), write(2, "y")]);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// c·a, any shape.
pub fn scale(r: &mut Recorder, a: &Var, c: f32) -> Result<Var> {
    let y = Tensor::scratch("scale", a.data.shape());
    let p = Scale { n: y.len() as u32, c };
    let grid = Grid::items(y.len(), 256);
    r.launch(&FORWARD, grid, &p, &[&a.data, &y])?;
    Ok(r.push(a, y, move |r, a, dy, grads| {
        let da = grads.alloc(&a);
        r.launch(&FORWARD, grid, &p, &[dy, &da])?;
        grads.add(r, &a, da)
    }))
}

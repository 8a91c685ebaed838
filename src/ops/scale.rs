//! scale: a tensor times a constant. Maths: `shaders/scale.wgsl`.

use crate::error::Result;
use crate::gpu::{Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `scale.wgsl`.
    pub(crate) struct Scale { n: u32, c: f32 }
}

const FORWARD: Kernel = Kernel::new::<Scale>("scale.forward", wgsl!("scale", "grid"), &[read(1, "a"), write(2, "y")]);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// The product c·a with a number c, element by element.
///
/// - Shapes: a, any → the same.
/// - PyTorch: `c * a`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::scale::scale, tape::*, tensor::Tensor};
/// let a = Var::leaf(Tensor::from_slice(g, &[2], &[1.0, -2.0])?);
/// let mut r = Recorder::new(g);
/// let y = scale(&mut r, &a, 0.5)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [0.5, -1.0]);
/// assert_eq!(grads.get(&a).unwrap().to_vec(g)?, [0.5, 0.5]);
/// # Ok(()) });
/// ```
pub fn scale(r: &mut Recorder, a: &Var, c: f32) -> Result<Var> {
    let y = Tensor::scratch("scale", a.data.shape());
    let p = scalars!(Scale { n: y.len(), c });
    let grid = Grid::items(y.len(), 256);
    r.launch(&FORWARD, grid, &p, &[&a.data, &y])?;
    Ok(r.push(a, y, move |r, a, dy, grads| {
        let da = grads.alloc(&a);
        r.launch(&FORWARD, grid, &p, &[dy, &da])?;
        grads.add(r, &a, da)
    }))
}

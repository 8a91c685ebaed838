//! upsample: maps of twice the size. Maths: `shaders/upsample.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `upsample.wgsl`.
    pub(crate) struct Upsample { n: u32, w: u32, c: u32 }
}

const SRC: &str = wgsl!("upsample", "grid");
const FORWARD: Kernel = Kernel::new::<Upsample>("upsample.forward", SRC, &[read(1, "x"), write(2, "y")]);
const BACKWARD: Kernel = Kernel::new::<Upsample>("upsample.backward", SRC, &[read(3, "dy"), write(4, "dx")]);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// Each cell of a map, twice in rows and twice in columns.
///
/// - Shapes: x (B, H, W, C) → (B, 2H, 2W, C).
/// - PyTorch: `F.interpolate(x, scale_factor=2, mode="nearest")`, with x (B, C, H, W).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::upsample::nearest, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 1, 2, 1], &[1.0, 2.0])?);
/// let mut r = Recorder::new(g);
/// let y = nearest(&mut r, &x)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [4.0, 4.0]);
/// # Ok(()) });
/// ```
pub fn nearest(r: &mut Recorder, x: &Var) -> Result<Var> {
    let [b, h, w, c] = x.data.dims("upsample: x")?;
    if x.data.is_empty() {
        return Err(Error::argument("upsample: x", format!("{:?}", x.data.shape()), "a map that is not empty"));
    }
    let (n, large) = (x.data.len(), 4 * x.data.len());
    let y = Tensor::scratch("upsample", &[b, 2 * h, 2 * w, c]);
    r.launch(&FORWARD, Grid::items(large, 256), &scalars!(Upsample { n: large, w, c }), &[&x.data, &y])?;
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        r.launch(&BACKWARD, Grid::items(n, 256), &scalars!(Upsample { n, w, c }), &[dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

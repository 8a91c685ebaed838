//! dropout: features times given factors. Maths: `shaders/dropout.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `dropout.wgsl`.
    pub(crate) struct Dropout { n: u32, l: u32, c: u32 }
}

const BINDS: &[Bind] = &[read(1, "x"), read(2, "factors"), write(3, "y")];
const FORWARD: Kernel = Kernel::new::<Dropout>("dropout.forward", wgsl!("dropout", "grid"), BINDS);
const BACKWARD: Kernel = Kernel::new::<Dropout>("dropout.backward", wgsl!("dropout", "grid"), BINDS);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// x times a factor for each feature of a sample: 0 where it is dropped, else 1/(1 − p).
/// [`rng::drop_path`](super::rng::drop_path) draws such factors.
///
/// - Shapes: x (B, .., C), `factors` (B, C) → the shape of x. All pixels of a map share the factors.
/// - PyTorch: `F.dropout(x, p)` for x (B, C), and `F.dropout2d(x, p)` for maps, with the mask given.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::dropout::dropout, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 3], &[1.0, 2.0, 3.0])?);
/// let factors = Tensor::from_slice(g, &[1, 3], &[2.0, 0.0, 2.0])?;
/// let mut r = Recorder::new(g);
/// let y = dropout(&mut r, &x, &factors)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [2.0, 0.0, 6.0]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [2.0, 0.0, 2.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If `factors` are not one for each feature of a sample.
pub fn dropout(r: &mut Recorder, x: &Var, factors: &Tensor) -> Result<Var> {
    let (shape, [b, c]) = (x.data.shape(), factors.dims("dropout: factors")?);
    if x.data.is_empty() || shape.len() < 2 || shape[0] != b || shape.last() != Some(&c) {
        return Err(Error::argument("dropout: x", format!("{shape:?}"), format!("({b}, .., {c}), not empty")));
    }
    let n = x.data.len();
    let (p, grid) = (scalars!(Dropout { n, l: n / (b * c), c }), Grid::items(n, 256));
    let y = Tensor::scratch("dropout", shape);
    r.launch(&FORWARD, grid, &p, &[&x.data, factors, &y])?;
    let factors = factors.clone();
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        r.launch(&BACKWARD, grid, &p, &[dy, &factors, &dx])?;
        grads.add(r, &x, dx)
    }))
}

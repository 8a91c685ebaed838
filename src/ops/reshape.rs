//! reshape: the same memory with another shape. Forward and backward launch nothing, so there is no shader and no
//! oracle.

use crate::error::Result;
use crate::tape::{Recorder, Var};

/// x with another shape, in the same memory.
///
/// - Shapes: x, any → `shape`, with as many elements.
/// - PyTorch: `x.view(shape)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::reshape::reshape, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[2, 2], &[1.0, 2.0, 3.0, 4.0])?);
/// let mut r = Recorder::inference(g);
/// let y = reshape(&mut r, &x, &[4])?;
/// assert_eq!(y.data.shape(), [4]);
/// assert_eq!(y.data.to_vec(g)?, [1.0, 2.0, 3.0, 4.0]); // nothing to run
/// # Ok(()) });
/// ```
pub fn reshape(r: &mut Recorder, x: &Var, shape: &[usize]) -> Result<Var> {
    let out = x.data.reshape(shape)?;
    Ok(r.push(x, out, move |r, x, dout, grads| grads.add(r, &x, dout.reshape(x.data.shape())?)))
}

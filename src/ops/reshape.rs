//! reshape: the same values in another shape. Launches nothing in either direction, so it has no shader and no oracle.

use crate::error::Result;
use crate::tape::{Recorder, Var};

/// x of any shape -> the same memory with `shape`, which has as many elements.
pub fn reshape(r: &mut Recorder, x: &Var, shape: &[usize]) -> Result<Var> {
    let out = x.data.reshape(shape)?;
    Ok(r.push(x, out, move |r, x, dout, grads| grads.add(r, &x, dout.reshape(x.data.shape())?)))
}

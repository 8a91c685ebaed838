//! upsample: the last map of MambaVision in a pretraining, in the decoder's width.

use crate::bench::ops::*;
use cpu::upsample::{nearest, nearest_backward};

fn expect(v: &Values) -> Result<Vec<Want>> {
    let size = v.shape("x")?;
    let y = nearest(size, v.get("x")?);
    // three additions
    Ok(vec![want("y", y, Tol::EXACT), near("dx", nearest_backward(size, v.get("dy")?), 2e-6)])
}

pub fn cases(c: &mut Cases) {
    let b = c.scope.batch();
    for (side, width, timed) in [(3, c.scope.awkward(), false), (7, 192, true)] {
        let mut draft = c.case(format!("{width} {side}x{side}x{b}"));
        if timed {
            draft = draft.floors([20, 20].map(|bytes| Floor::bytes(bytes * b * side * side * width)));
        }
        draft.check(1, "images", expect).op(move |r, fill| {
            let x = fill.leaf("x", Axis(0), &[b, side, side, width])?;
            Ok(vec![out("y", Axis(0), ops::upsample::nearest(r, &x)?)])
        });
    }
}

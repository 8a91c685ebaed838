//! max_concat: the encoder of patches of point clouds.

use crate::bench::ops::*;
use cpu::max_concat::{backward, forward};
use ops::max_concat::max_concat;

fn expect(v: &Values) -> Result<Vec<Want>> {
    let ([_, k, c], x) = (v.shape("x")?, v.get("x")?);
    // a maximum gets a sum of K gradients and one more
    let dx = near("dx", backward(k, c, x, v.get("dy")?), 1e-6);
    Ok(vec![want("y", forward(k, c, x), Tol::EXACT), dx])
}

pub fn cases(c: &mut Cases) {
    let patches = if c.scope.quick { 64 } else { 2048 };
    for (sets, k, width, timed) in [(3, 7, c.scope.awkward(), false), (patches, 32, 256, true)] {
        let mut draft = c.case(format!("{width} of {k} points x{sets}"));
        if timed {
            draft = draft.floors([Floor::bytes(12 * sets * k * width); 2]);
        }
        draft.check(4, "sets", expect).op(move |r, fill| {
            let x = fill.leaf("x", Axis(0), &[sets, k, width])?;
            Ok(vec![out("y", Axis(0), max_concat(r, &x)?)])
        });
    }
}

//! channel_gate: squeeze-and-excitation in EfficientNet-B3.

use crate::bench::ops::*;
use cpu::channel_gate::{backward, forward};

fn expect(v: &Values) -> Result<Vec<Want>> {
    let [_, l, c] = v.shape("x")?;
    let (x, t) = (v.get("x")?, v.get("t")?);
    let (dx, dt) = backward(l, c, x, t, v.get("dy")?);
    // a product and an exp; dt is a sum over pixels
    Ok(vec![near("y", forward(l, c, x, t), 4e-6), near("dx", dx, 4e-6), near("dt", dt, 1e-5)])
}

pub fn cases(c: &mut Cases) {
    let b = c.scope.batch();
    for (side, width, timed) in [(5, c.scope.awkward(), false), (38, 288, true), (19, 816, !c.scope.quick)] {
        let (l, n) = (side * side, b * side * side * width);
        let mut draft = c.case(format!("{width} {side}x{side}x{b}"));
        if timed {
            draft = draft.floors([8, 16].map(|bytes| Floor::of(bytes * n, n, b * width)));
        }
        draft.check(1, "images", expect).op(move |r, fill| {
            let (x, t) = (fill.leaf("x", Axis(0), &[b, l, width])?, fill.leaf("t", Axis(0), &[b, width])?);
            Ok(vec![out("y", Axis(0), ops::channel_gate::channel_gate(r, &x, &t)?)])
        });
    }
}

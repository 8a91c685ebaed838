//! channel_gate: squeeze-and-excitation in EfficientNet-B3.

use crate::bench::ops::*;
use cpu::channel_gate::{backward, forward};

fn expect(v: &Values, half: bool) -> Result<Vec<Want>> {
    let [_, l, c] = v.shape("x")?;
    let (x, t) = (v.get("x")?, v.get("t")?);
    let (dx, dt) = backward(l, c, x, t, v.get("dy")?);
    // a product and an exp, or the rounding of storage as f16; dt is a sum over pixels
    let map = if half { 4.9e-4 } else { 4e-6 };
    Ok(vec![near("y", forward(l, c, x, t), map), near("dx", dx, map), near("dt", dt, 1e-5)])
}

pub fn cases(c: &mut Cases) {
    let b = c.scope.batch();
    for (side, width, timed) in [(5, c.scope.awkward(), false), (38, 288, true), (19, 816, !c.scope.quick)] {
        let (l, n, half) = (side * side, b * side * side * width, halved(c.scope, width));
        let mut draft = c.case(format!("{width} {side}x{side}x{b}"));
        if timed {
            draft = draft.floors([8, 16].map(|bytes| Floor::of(bytes * n / if half { 2 } else { 1 }, n, b * width)));
        }
        draft.check(1, "images", move |v| expect(v, half)).op(move |r, fill| {
            let (x, t) = (fill.leaf_in(half, "x", Axis(0), &[b, l, width])?, fill.leaf("t", Axis(0), &[b, width])?);
            Ok(vec![out("y", Axis(0), ops::channel_gate::channel_gate(r, &x, &t)?)])
        });
    }
}

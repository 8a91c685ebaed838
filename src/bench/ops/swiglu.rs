//! swiglu: the gated layer in the MLPs of ARM.

use crate::bench::ops::*;
use cpu::swiglu::{backward, forward};

pub fn cases(c: &mut Cases) {
    let b = c.scope.batch();
    // the hidden layers of ARM-B and ARM-L, 14 × 14 patches and a class token
    for (l, h, timed) in [(5, c.scope.awkward(), false), (197, 2048, true), (197, 2730, !c.scope.quick)] {
        let mut draft = c.case(format!("{h} {l}x{b}"));
        if timed {
            draft = draft.floors([12, 20].map(|bytes| Floor::of(bytes * b * l * h, 0, b * l * h)));
        }
        let expect = move |v: &Values| {
            let (x, dy) = (v.get("x")?, v.get("dy")?);
            let tol = Tol { rel: 1e-6, abs: 2e-6 }; // a sigmoid, off by 4 ulp, and three roundings
            Ok(vec![want("y", forward(h, x), tol), want("dx", backward(h, x, dy), tol)])
        };
        draft.check(1, "images", expect).op(move |r, fill| {
            let x = fill.leaf("x", Axis(0), &[b, l, 2 * h])?;
            Ok(vec![out("y", Axis(0), ops::swiglu::swiglu(r, &x)?)])
        });
    }
}

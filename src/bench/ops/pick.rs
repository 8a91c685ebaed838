//! pick: the masks of the classes of objects, of COCO's 80.

use crate::bench::ops::*;
use cpu::pick::{backward, forward};

fn expect(v: &Values) -> Result<Vec<Want>> {
    let ([_, p, k], index) = (v.shape("x")?, v.indices("index")?);
    let y = want("y", forward(p, k, v.get("x")?, &index), Tol::EXACT);
    Ok(vec![y, want("dx", backward(p, k, &index, v.get("dy")?), Tol::EXACT)])
}

pub fn cases(c: &mut Cases) {
    let rows = if c.scope.quick { 16 } else { 128 };
    for (rows, points, k, timed) in [(3, 5, c.scope.awkward(), false), (rows, 784, 80, true)] {
        let mut draft = c.case(format!("{k} of {points} points x{rows}"));
        if timed {
            draft = draft.floors([Floor::bytes(8 * rows * points), Floor::bytes(4 * rows * points * (k + 1))]);
        }
        draft.check(4, "objects", expect).op(move |r, fill| {
            let x = fill.leaf("x", Axis(0), &[rows, points, k])?;
            let classes: Vec<u32> = (0..rows as u32).map(|i| 7 * i % k as u32).collect();
            let index = fill.table("index", Axis(0), &[rows], &classes)?;
            Ok(vec![out("y", Axis(0), ops::pick::pick(r, &x, &index)?)])
        });
    }
}

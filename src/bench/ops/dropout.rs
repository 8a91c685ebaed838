//! dropout: the head of UperNet, whose maps lose whole channels.

use crate::bench::ops::*;
use cpu::dropout::scale;
use ops::dropout::dropout;

fn expect(v: &Values) -> Result<Vec<Want>> {
    let ([_, l, c], factors) = (v.shape("x")?, v.get("factors")?);
    let of = |values| scale(l, c, values, factors);
    Ok(vec![
        want("y", of(v.get("x")?), Tol { rel: 1e-7, abs: 0.0 }),
        want("dx", of(v.get("dy")?), Tol { rel: 1e-7, abs: 0.0 }),
    ])
}

pub fn cases(c: &mut Cases) {
    let pixels = if c.scope.quick { 1024 } else { 16_384 };
    for (b, l, width, timed) in [(3, 5, c.scope.awkward(), false), (c.scope.batch().min(8), pixels, 384, true)] {
        let mut draft = c.case(format!("{width} of {l} pixels x{b}"));
        if timed {
            draft = draft.floors([Floor::bytes(8 * b * l * width); 2]);
        }
        draft.check(1, "images", expect).op(move |r, fill| {
            let x = fill.leaf("x", Axis(0), &[b, l, width])?;
            let factors = fill.normal("factors", Axis(0), &[b, width])?;
            Ok(vec![out("y", Axis(0), dropout(r, &x, &factors)?)])
        });
    }
}

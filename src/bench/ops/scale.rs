//! scale: a token stream times a constant.

use crate::bench::ops::*;
use cpu::scale::{backward, forward};

const BY: f32 = -0.75;

fn expect(v: &Values) -> Result<Vec<Want>> {
    let tol = Tol { rel: 6e-8, abs: 0.0 }; // one rounding
    Ok(vec![want("y", forward(v.get("a")?, BY.into()), tol), want("da", backward(BY.into(), v.get("dy")?), tol)])
}

pub fn cases(c: &mut Cases) {
    for s in c.scope.few() {
        let floors = [Floor::bytes(8 * s.rows() * s.d); 2];
        c.case(s.to_string()).at(&s).floors(floors).check(2, "images", expect).op(move |r, x| {
            let a = x.leaf("a", Axis(0), &[s.b, s.l, s.d])?;
            Ok(vec![out("y", Axis(0), ops::scale::scale(r, &a, BY)?)])
        });
    }
}

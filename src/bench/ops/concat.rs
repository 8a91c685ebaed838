//! concat: two token streams side by side (torch.cat along the last axis), and one of them read back (torch.narrow).

use crate::bench::ops::*;
use cpu::concat::{forward, narrow as part};
use ops::concat::{concat, narrow};

fn expect(v: &Values, d: usize) -> Result<Vec<Want>> {
    let dy = v.get("dy")?;
    let rows = dy.len() / (2 * d);
    let y = forward(rows, 2 * d, &[(0, d, v.get("a")?), (d, d, v.get("b")?)]);
    let [da, db] = [0, d].map(|start| part(dy, 2 * d, start, d));
    Ok(vec![want("y", y, Tol::EXACT), want("da", da, Tol::EXACT), want("db", db, Tol::EXACT)])
}

fn expect_narrow(v: &Values, d: usize) -> Result<Vec<Want>> {
    let (x, dout) = (v.get("x")?, v.get("dout")?);
    let dx = forward(dout.len() / d, 2 * d, &[(d, d, dout)]);
    Ok(vec![want("out", part(x, 2 * d, d, d), Tol::EXACT), want("dx", dx, Tol::EXACT)])
}

pub fn cases(c: &mut Cases) {
    for s in c.scope.few() {
        let n = s.rows() * s.d;
        let case = c.case(format!("two {s}")).at(&s).floors([Floor::bytes(16 * n); 2]);
        case.check(2, "images", move |v| expect(v, s.d)).op(move |r, x| {
            let [a, b] = ["a", "b"].map(|name| x.leaf(name, Axis(0), &[s.b, s.l, s.d]));
            Ok(vec![out("y", Axis(0), concat(r, &[&a?, &b?])?)])
        });
        let case = c.case(format!("narrow {s}")).at(&s).floors([8, 12].map(|bytes| Floor::bytes(bytes * n)));
        case.check(2, "images", move |v| expect_narrow(v, s.d)).op(move |r, x| {
            let both = x.leaf("x", Axis(0), &[s.b, s.l, 2 * s.d])?;
            Ok(vec![out("out", Axis(0), narrow(r, &both, s.d, s.d)?)])
        });
    }
}

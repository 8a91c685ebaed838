//! add: the addition of a branch to the residual stream, without and with DropPath.

use crate::bench::ops::*;
use cpu::add::{backward, drop_path_backward, forward, with_drop_path};

fn expect(v: &Values, half: bool) -> Result<Vec<Want>> {
    let (tol, grads) = (Tol { rel: 6e-8, abs: 0.0 }.or_f16(half), backward(v.get("dy")?)); // one rounding
    let y = forward(v.get("a")?, v.get("b")?);
    Ok(vec![want("y", y, tol), want("da", grads.da, tol), want("db", grads.db, tol)])
}

fn expect_drop_path(v: &Values, half: bool) -> Result<Vec<Want>> {
    let (drop_path, dy) = (v.get("drop_path")?, v.get("dy")?);
    // gradients have one rounding error; y has two, of the product and of the sum
    let (tol, grads) = (Tol { rel: 6e-8, abs: 0.0 }.or_f16(half), drop_path_backward(dy, drop_path));
    let y = with_drop_path(v.get("a")?, v.get("b")?, drop_path);
    Ok(vec![near("y", y, if half { 4.9e-4 } else { 2e-7 }), want("da", grads.da, tol), want("db", grads.db, tol)])
}

pub fn cases(c: &mut Cases) {
    for s in c.scope.few() {
        let (n, half) = (s.rows() * s.d, halved(c.scope, s.d));
        let share = if half { 2 } else { 1 };
        // backward: the gradient of one operand is dy itself, that of the other is a copy of dy
        let floors = [12, 8].map(|bytes| Floor::bytes(bytes * n / share));
        c.case(s.to_string()).at(&s).floors(floors).check(2, "images", move |v| expect(v, half)).op(move |r, x| {
            let [a, b] = ["a", "b"].map(|name| x.leaf_in(half, name, Axis(0), &[s.b, s.l, s.d]));
            Ok(vec![out("y", Axis(0), ops::add::add(r, &a?, &b?)?)])
        });
        // backward: da is dy itself, db is computed
        let floors = [12, 8].map(|bytes| Floor::bytes(bytes * n / share));
        c.case(format!("drop_path {s}"))
            .at(&s)
            .floors(floors)
            .check(2, "images", move |v| expect_drop_path(v, half))
            .op(move |r, x| {
                let [a, b] = ["a", "b"].map(|name| x.leaf_in(half, name, Axis(0), &[s.b, s.l, s.d]));
                let drop_path = x.uniform("drop_path", Axis(0), &[s.b])?;
                Ok(vec![out("y", Axis(0), ops::add::add_drop_path(r, &a?, &b?, &drop_path)?)])
            });
    }
}

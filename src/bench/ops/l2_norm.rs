//! l2_norm: F.normalize of the queries and keys of a contrastive step.

use crate::bench::ops::*;
use cpu::l2_norm::{backward, forward};

fn expect(v: &Values) -> Result<Vec<Want>> {
    let [_, d] = v.shape("x")?;
    let x = v.get("x")?;
    // the root of a sum in a tree, and products and differences of numbers up to 3
    let y = want("y", forward(d, x), Tol { rel: 2e-6, abs: 1e-12 });
    Ok(vec![y, want("dx", backward(d, x, v.get("dy")?), Tol { rel: 4e-6, abs: 2e-6 })])
}

pub fn cases(c: &mut Cases) {
    for n in c.scope.batches() {
        let (rows, d) = (2 * n, 128);
        let floors = [8, 12].map(|bytes| Floor::bytes(bytes * rows * d));
        c.case(format!("keys {d}x{rows}")).floors(floors).check(64, "rows", expect).op(move |r, x| {
            let v = x.leaf("x", Axis(0), &[rows, d])?;
            Ok(vec![out("y", Axis(0), ops::l2_norm::l2_norm(r, &v)?)])
        });
    }
}

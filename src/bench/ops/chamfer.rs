//! chamfer: rebuilt patches of point clouds against true ones.

use crate::bench::ops::*;
use cpu::chamfer::{Dims, Form, backward, forward};
use ops::chamfer::{ChamferForm, chamfer};

fn expect(v: &Values, form: Form, pairs: usize) -> Result<Vec<Want>> {
    let ([p, n, _], [_, m, _]) = (v.shape("a")?, v.shape("b")?);
    let (dim, a, b) = (Dims { p, n, m }, v.get("a")?, v.get("b")?);
    // the means are over all pairs, of which p are compared
    let share = |values: Vec<f64>| values.into_iter().map(|v| v * p as f64 / pairs as f64).collect::<Vec<f64>>();
    let (da, db) = backward(dim, form, a, b, v.get("dshares")?);
    // distances from differences of three coordinates; a gradient sums those of all points whose nearest it is
    let of = |name, values| near(name, share(values), 2e-6);
    Ok(vec![of("shares", forward(dim, form, a, b).0), of("da", da), of("db", db)])
}

pub fn cases(c: &mut Cases) {
    let patches = if c.scope.quick { 128 } else { 4096 };
    let forms = [("L1", Form::L1, ChamferForm::L1), ("L2", Form::L2, ChamferForm::L2)];
    for (name, oracle, form) in forms {
        for (pairs, n, m, timed) in [(3, 17, 5, false), (patches, 32, 32, true)] {
            let points = pairs * (n + m);
            let mut draft = c.case(format!("{name} {n} and {m} points x{pairs}"));
            if timed {
                let forward = Floor::of(20 * points, 16 * pairs * n * m, 0);
                draft = draft.floors([forward, Floor::bytes(2 * 32 * points)]);
            }
            draft.check(8, "pairs", move |v| expect(v, oracle, pairs)).op(move |r, fill| {
                let (a, b) = (fill.leaf("a", Axis(0), &[pairs, n, 3])?, fill.leaf("b", Axis(0), &[pairs, m, 3])?);
                Ok(vec![out("shares", Axis(0), chamfer(r, &a, &b, form)?)])
            });
        }
    }
}

//! batch_norm: the maps of MambaVision's and ResNet's stages, in training.

use crate::bench::ops::*;
use cpu::batch_norm::{backward, forward, statistics};
use ops::batch_norm::{BatchStatistics, batch_norm};

const EPS: f32 = 1e-5;

fn expect(v: &Values) -> Result<Vec<Want>> {
    let (x, w, dy) = (v.get("x")?, v.get("w")?, v.get("dy")?);
    let of = statistics(x, w.len());
    let (of, eps) = ([&of[0][..], &of[1][..]], f64::from(EPS));
    let grads = backward(x, of, w, eps, dy, true);
    Ok(vec![
        near("y", forward(x, of, w, v.get("bias")?, eps), 4e-6),
        near("dx", grads.dx, 4e-6),
        near("dw", grads.dw, 1e-5), // sums over all rows
        near("dbias", grads.db, 1e-5),
    ])
}

pub fn cases(c: &mut Cases) {
    let (b, quick) = (c.scope.batch(), c.scope.quick);
    for (side, width, timed) in [(3, c.scope.awkward(), false), (56, 80, true), (28, 160, !quick), (14, 1024, !quick)] {
        let rows = b * side * side;
        let mut draft = c.case(format!("{width} {side}x{side}x{b}")).fact("eps", EPS);
        if timed {
            draft = draft.floors([12, 20].map(|bytes| Floor::of(bytes * rows * width, 11 * rows * width, 0)));
        }
        // the statistics are those of the whole batch, so all rows are compared
        draft.check(rows, "rows", expect).op(move |r, x| {
            let (input, w) = (x.leaf("x", Axis(0), &[rows, width])?, x.leaf("w", Whole, &[width])?);
            let bias = x.leaf("bias", Whole, &[width])?;
            let statistics = BatchStatistics::Batch { running: None, momentum: 0.1 };
            Ok(vec![out("y", Axis(0), batch_norm(r, &input, &w, &bias, statistics, EPS)?)])
        });
    }
}

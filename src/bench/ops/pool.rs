//! pool: the max pooling behind ResNet's stem.

use crate::bench::ops::*;
use cpu::pool::{Dims, backward, forward};
use ops::pool::{Windows, max_pool};

fn expect(v: &Values, half: bool) -> Result<Vec<Want>> {
    let [b, h, w, c] = v.shape("x")?;
    let Windows { kernel, stride, padding } = Windows::RESNET;
    let dim = Dims { b, h, w, c, kernel, stride, padding };
    let x = v.get("x")?;
    // dx is a sum of at most four gradients
    let dx = want("dx", backward(dim, x, v.get("dy")?), Tol { rel: 2e-7, abs: 1e-6 }.or_f16(half));
    Ok(vec![want("y", forward(dim, x).0, Tol::EXACT), dx])
}

pub fn cases(c: &mut Cases) {
    let side = if c.scope.quick { 28 } else { 112 };
    for (b, side, width, timed) in [(2, 9, c.scope.awkward(), false), (c.scope.batch(), side, 64, true)] {
        let (x, y) = (b * side * side * width, b * side.div_ceil(2).pow(2) * width);
        let half = halved(c.scope, width);
        let mut draft = c.case(format!("max {width} {side}x{side}x{b}"));
        if timed {
            draft = draft.floors([Floor::bytes(if half { 2 * x + 3 * y } else { 4 * x + 5 * y }); 2]);
        }
        draft.check(1, "images", move |v| expect(v, half)).op(move |r, fill| {
            let x = fill.leaf_in(half, "x", Axis(0), &[b, side, side, width])?;
            Ok(vec![out("y", Axis(0), max_pool(r, &x, Windows::RESNET)?)])
        });
    }
}

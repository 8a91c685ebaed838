//! hide: the maps of MambaVision-B's convolutional levels in a pretraining, patches of 16 pixels, half of them hidden.

use crate::bench::ops::*;
use cpu::hide::hide as expected;

fn expect(v: &Values, grid: [usize; 2]) -> Result<Vec<Want>> {
    let size = v.shape("x")?;
    let inv = v.indices("inv")?;
    let of = |x: &[f64]| expected(size, grid, x, &inv);
    Ok(vec![want("y", of(v.get("x")?), Tol::EXACT), want("dx", of(v.get("dy")?), Tol::EXACT)])
}

pub fn cases(c: &mut Cases) {
    let b = c.scope.batch();
    for (patches, cells, width, timed) in
        [(3, 2, c.scope.awkward(), false), (14, 4, 128, true), (14, 2, 256, !c.scope.quick)]
    {
        let side: usize = patches * cells;
        let (n, half) = (b * side * side * width, halved(c.scope, width));
        let mut draft = c.case(format!("{width} {side}x{side}x{b}"));
        if timed {
            draft = draft.floors([8, 8].map(|bytes| Floor::bytes(bytes * n / if half { 2 } else { 1 })));
        }
        draft.check(1, "images", move |v| expect(v, [patches; 2])).op(move |r, fill| {
            let x = fill.leaf_in(half, "x", Axis(0), &[b, side, side, width])?;
            let hidden: Vec<u32> =
                (0..b * patches * patches).map(|i| if i * 7 % 3 == 0 { u32::MAX } else { 0 }).collect();
            let inv = fill.table("inv", Axis(0), &[b, patches * patches], &hidden)?;
            Ok(vec![out("y", Axis(0), ops::hide::hide(r, &x, &inv, [patches; 2])?)])
        });
    }
}

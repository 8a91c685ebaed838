//! layer_scale: the residual branches of ConvNeXt, with DropPath.

use crate::bench::ops::*;
use cpu::layer_scale::{backward, forward};

/// The branch h is f16 if `half`, and the stream x is f32.
fn expect(v: &Values, half: bool) -> Result<Vec<Want>> {
    let [_, l, _] = v.shape("x")?;
    let (x, h, gamma, dy) = (v.get("x")?, v.get("h")?, v.get("gamma")?, v.get("dy")?);
    let drop_path = Some(v.get("drop_path")?);
    let (dh, dgamma) = backward(l, h, gamma, drop_path, dy);
    let tol = Tol { rel: 4e-7, abs: 2e-6 }; // three roundings
    Ok(vec![
        want("y", forward(l, x, h, gamma, drop_path), tol),
        want("dx", dy.to_vec(), Tol::EXACT),
        want("dh", dh, tol.or_f16(half)),
        near("dgamma", dgamma, 1e-5), // a sum over rows
    ])
}

pub fn cases(c: &mut Cases) {
    let b = c.scope.batch();
    for (side, width, timed) in [(5, c.scope.awkward(), false), (56, 96, true), (14, 384, !c.scope.quick)] {
        let (l, n, half) = (side * side, b * side * side * width, halved(c.scope, width));
        let mut draft = c.case(format!("{width} {side}x{side}x{b}"));
        if timed {
            draft = draft.floors(
                [(12, 1), (12, 2)]
                    .map(|(bytes, maps)| Floor::of((bytes - if half { 2 * maps } else { 0 }) * n, 4 * n, 0)),
            );
        }
        draft.check(1, "images", move |v| expect(v, half)).op(move |r, fill| {
            let shape = [b, l, width];
            let (x, h) = (fill.leaf("x", Axis(0), &shape)?, fill.leaf_in(half, "h", Axis(0), &shape)?);
            let (gamma, kept) = (fill.leaf("gamma", Whole, &[width])?, fill.uniform("drop_path", Axis(0), &[b])?);
            let y = ops::layer_scale::layer_scale(r, &x, &h, &gamma, Some(&kept))?;
            Ok(vec![out("y", Axis(0), y)])
        });
    }
}

//! resample: the pyramid of UperNet, whose levels grow, and the bins of its pooling.

use crate::bench::ops::*;
use cpu::resample::{Form, backward, forward};
use ops::resample::{adaptive_average, bilinear};

fn expect(v: &Values, form: Form, out: [usize; 2], half: bool) -> Result<Vec<Want>> {
    let size = v.shape("x")?;
    let share = if half { 2e-3 } else { 2e-6 }; // a rounding of weights and of each sum; in f16 of the map between
    let y = near("y", forward(form, size, out, v.get("x")?), share);
    Ok(vec![y, near("dx", backward(form, size, out, v.get("dy")?), share)])
}

pub fn cases(c: &mut Cases) {
    let (b, large) = (c.scope.batch().min(8), if c.scope.quick { 32 } else { 64 });
    for (form, side, to, width, timed) in [
        (Form::HalfPixels, 5, 7, c.scope.awkward(), false),
        (Form::Corners, 6, 4, 8, false),
        (Form::HalfPixels, large, 2 * large, 384, true),
        (Form::Average, 16, 6, 384, true),
    ] {
        let half = halved(c.scope, width);
        let mut draft = c.case(format!("{form:?} {width} {side}x{side} to {to}x{to} x{b}"));
        if timed {
            let bytes = if half { 2 } else { 4 } * b * width * (side * side + to * to);
            draft = draft.floors([Floor::bytes(bytes); 2]);
        }
        draft.check(1, "images", move |v| expect(v, form, [to, to], half)).op(move |r, fill| {
            let x = fill.leaf_in(half, "x", Axis(0), &[b, side, side, width])?;
            let y = match form {
                Form::Average => adaptive_average(r, &x, [to, to])?,
                _ => bilinear(r, &x, [to, to], form == Form::Corners)?,
            };
            Ok(vec![out("y", Axis(0), y)])
        });
    }
}

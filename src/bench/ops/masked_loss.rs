//! masked_loss: the masks of Mask R-CNN, and the boxes of its region proposals.

use crate::bench::ops::*;
use cpu::masked_loss::{Form, of};
use ops::masked_loss::{Divisor, bce_with_logits, l1};

const DIVISOR: f64 = 256.0;

fn expect(v: &Values, form: Form) -> Result<Vec<Want>> {
    let (loss, dx) = of(form, v.get("x")?, v.get("target")?, v.get("weight")?, DIVISOR);
    let d = v.get("dloss")?[0];
    // a tree of sums; exp and log are off by a few ulp
    Ok(vec![near("loss", vec![loss], 8e-6), near("dx", dx.into_iter().map(|v| d * v).collect(), 4e-6)])
}

pub fn cases(c: &mut Cases) {
    let rows = if c.scope.quick { 1024 } else { 262_144 };
    for (form, rows, d, timed) in
        [(Form::CrossEntropy, 13, 7, false), (Form::CrossEntropy, 128, 784, true), (Form::Difference, rows, 4, true)]
    {
        let mut draft = c.case(format!("{form:?} {rows}x{d}"));
        if timed {
            draft = draft.floors([8, 12].map(|bytes| Floor::bytes(bytes * rows * d)));
        }
        draft.check(8, "rows", move |v| expect(v, form)).op(move |r, fill| {
            let x = fill.leaf("x", Whole, &[rows, d])?;
            let (target, weight) =
                (fill.uniform("target", Whole, &[rows, d])?, fill.uniform("weight", Whole, &[rows])?);
            let loss = match form {
                Form::CrossEntropy => bce_with_logits(r, &x, &target, &weight, Divisor::Of(DIVISOR))?,
                Form::Difference => l1(r, &x, &target, &weight, Divisor::Of(DIVISOR))?,
            };
            Ok(vec![out("loss", Whole, loss)])
        });
    }
}

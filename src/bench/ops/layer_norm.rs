//! layer_norm: residual add with DropPath, then the norm, as in the decoder and the transformer blocks.

use crate::bench::ops::*;
use cpu::layer_norm::{backward, forward};
use cpu::rms_norm::Dims;

const EPS: f32 = 1e-5;

fn expect(v: &Values, half: bool) -> Result<Vec<Want>> {
    let [b, l, d] = v.shape("x")?;
    let (dim, eps) = (Dims { rows: b * l, l, d }, f64::from(EPS));
    let (keep, w) = (Some(v.get("keep")?), v.get("w")?);
    let it = forward(dim, v.get("x")?, Some(v.get("residual")?), keep, w, v.get("bias")?, eps);
    let grads = backward(dim, &it.sum, keep, w, eps, v.get("dy")?, Some(v.get("dsum")?));
    // a few roundings, and sums over a row or over the rows; y as f16, half a unit in the last place
    Ok(vec![
        near("y", it.y, if half { 4.9e-4 } else { 8e-6 }),
        near("sum", it.sum, 1e-6),
        near("dx", grads.dx, 8e-6),
        near("dresidual", grads.dresidual, 8e-6),
        near("dw", grads.dw, 8e-6),
        near("dbias", grads.dbias, 8e-6),
    ])
}

/// In mixed precision y and dy are f16, as in front of products.
fn case(c: &mut Cases, name: String, shape: [usize; 3], timed: bool) {
    let ([b, l, d], half) = (shape, c.scope.precision == Precision::Mixed);
    let mut draft = c.case(name).fact("eps", EPS);
    if timed {
        // forward: reads x and residual, writes sum and y; backward: reads sum, dy and dsum, writes dx and dresidual
        draft = draft.floors([16, 20].map(|bytes| Floor::bytes((bytes - 2 * usize::from(half)) * b * l * d)));
    }
    draft.check(2, "images", move |v| expect(v, half)).op(move |r, x| {
        let (v, residual) = (x.leaf("x", Axis(0), &shape)?, x.leaf("residual", Axis(0), &shape)?);
        let (keep, w, bias) =
            (x.uniform("keep", Axis(0), &[b])?, x.leaf("w", Whole, &[d])?, x.leaf("bias", Whole, &[d])?);
        let norm = if half { ops::layer_norm::layer_norm_half } else { ops::layer_norm::layer_norm };
        let (y, sum) = norm(r, &v, Some(&residual), Some(&keep), &w, &bias, EPS)?;
        Ok(vec![out("y", Axis(0), y), out("sum", Axis(0), sum)])
    });
}

pub fn cases(c: &mut Cases) {
    case(c, "small".into(), [2, 11, c.scope.awkward()], false);
    for s in c.scope.few() {
        case(c, s.to_string(), [s.b, s.l, s.d], true);
    }
}

//! norm: residual add with DropPath, fused with the norm after it: RMS norm as before every Mamba layer, and layer norm
//! as in the decoder and in transformer blocks.

use crate::bench::ops::*;
use crate::gpu::DType;
use cpu::norm::{Dims, Weights, backward, forward};
use ops::norm::{NormOptions, layer_norm, rms_norm};

const EPS: f32 = 1e-5;

fn expect(v: &Values, half: bool, layer: bool) -> Result<Vec<Want>> {
    let [b, l, d] = v.shape("x")?;
    let (dim, eps) = (Dims { rows: b * l, l, d }, f64::from(EPS));
    let bias = if layer { Some(v.get("bias")?) } else { None };
    let (drop_path, weights) = (Some(v.get("drop_path")?), Weights { w: v.get("w")?, b: bias });
    let it = forward(dim, v.get("x")?, Some(v.get("residual")?), drop_path, weights, eps);
    let grads = backward(dim, &it.sum, drop_path, weights, eps, v.get("dy")?, Some(v.get("dsum")?));
    // a few rounding errors, and sums over a row or, for dw and dbias, over all rows; y in f16 has an error of 0.5 ulp
    let mut wants = vec![
        near("y", it.y, if half { 4.9e-4 } else { 8e-6 }),
        near("sum", it.sum, 1e-6),
        near("dx", grads.dx, 8e-6),
        near("dresidual", grads.dresidual, 8e-6),
        near("dw", grads.dw, 8e-6),
    ];
    wants.extend(layer.then(|| near("dbias", grads.db, 8e-6)));
    Ok(wants)
}

/// In mixed precision y and dy are f16, as in a model, where a matrix product reads y.
fn case(c: &mut Cases, name: String, shape: [usize; 3], layer: bool, timed: bool) {
    let ([b, l, d], half) = (shape, c.scope.precision == Precision::Mixed);
    let op = if layer { "layer_norm" } else { "rms_norm" };
    let mut draft = c.case(format!("{op} {name}")).fact("op", op).fact("eps", EPS);
    if timed {
        // forward: reads x and residual, writes sum and y; backward: reads sum, dy and dsum, writes dx and dresidual
        draft = draft.floors([16, 20].map(|bytes| Floor::bytes((bytes - 2 * usize::from(half)) * b * l * d)));
    }
    draft.check(2, "images", move |v| expect(v, half, layer)).op(move |r, x| {
        let (v, residual) = (x.leaf("x", Axis(0), &shape)?, x.leaf("residual", Axis(0), &shape)?);
        let (drop_path, w) = (x.uniform("drop_path", Axis(0), &[b])?, x.leaf("w", Whole, &[d])?);
        let options = NormOptions {
            residual: Some(&residual),
            drop_path: Some(&drop_path),
            dtype: DType::f16_if(half),
            ..NormOptions::eps(EPS)
        };
        let (y, sum) = match layer {
            true => layer_norm(r, &v, &w, &x.leaf("bias", Whole, &[d])?, options)?,
            false => rms_norm(r, &v, &w, options)?,
        };
        Ok(vec![out("y", Axis(0), y), out("sum", Axis(0), sum)])
    });
}

pub fn cases(c: &mut Cases) {
    for layer in [false, true] {
        case(c, "small".into(), [2, 11, c.scope.awkward()], layer, false);
        for s in c.scope.few() {
            case(c, s.to_string(), [s.b, s.l, s.d], layer, true);
        }
    }
}

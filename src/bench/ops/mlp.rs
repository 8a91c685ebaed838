//! mlp: the MLP of a transformer block (timm's Mlp), with the activation fused into the matrix products.

use crate::bench::ops::*;
use crate::gpu::DType;
use cpu::activation::Activation;
use cpu::mlp::{Dims, backward, forward};
use ops::matmul::Act;
use ops::mlp::{MlpLayer, MlpOptions, mlp};

/// Tolerance, as a share of the largest element. In f32, up to three products in a row each have a rounding error of
/// about 2.4e-8·√k of their scale, and the activation has an error of a few ulp. In mixed precision each operand has a
/// relative error of up to 2⁻¹¹. Sums over random signs do not enlarge it, but the activation's slope does: normal
/// weights give it arguments in the tens, whose absolute error is a hundredth, and so is the error of the slope.
fn share(precision: Precision) -> f64 {
    if precision == Precision::Mixed { 2e-2 } else { 1e-5 }
}

fn expect(v: &Values, precision: Precision) -> Result<Vec<Want>> {
    let [x, w1, b1, w2, b2, dy] = ["x", "w1", "b1", "w2", "b2", "dy"].map(|name| v.get(name));
    let (x, w1, b1, w2, b2, dy) = (x?, w1?, b1?, w2?, b2?, dy?);
    let (h, n) = (b1.len(), b2.len());
    let dim = Dims { m: dy.len() / n, k: w1.len() / h, h, n };
    let (first, second) = ((w1, Some(b1)), (w2, Some(b2)));
    let y = forward(dim, Activation::Gelu, x, first, second, None);
    let (d1, d2) = backward(dim, Activation::Gelu, x, first, second, dy);
    let share = share(precision);
    Ok(vec![
        near("y", y, share),
        near("dx", d1.dx, share),
        near("dw1", d1.dw, share),
        near("db1", d1.dbias, share),
        near("dw2", d2.dw, share),
        near("db2", d2.dbias, share),
    ])
}

/// An MLP of `m` tokens of width `d`, with a hidden layer of width `h`.
fn case(c: &mut Cases, name: String, [m, d, h]: [usize; 3], timed: bool) {
    let precision = c.scope.precision;
    let mut draft = c.case(name).fact("op", "gelu");
    if timed {
        // bytes of a hidden array. forward: the hidden layer is written before and after the activation, and read after
        // it. backward: both are read; their gradient is written once and read twice
        let hidden = if precision == Precision::Mixed { 2 * m * h } else { 4 * m * h };
        let forward = Floor::of(8 * m * d + 3 * hidden + 8 * d * h, 4 * m * d * h, m * h);
        let backward = Floor::of(16 * m * d + 5 * hidden + 16 * d * h, 8 * m * d * h, m * h);
        draft = draft.floors([forward, backward]);
    }
    draft.check(16, "rows", move |v| expect(v, precision)).op(move |r, x| {
        let input = x.leaf("x", Axis(0), &[m, d])?;
        let (w1, b1) = (x.leaf("w1", Whole, &[h, d])?, x.leaf("b1", Whole, &[h])?);
        let (w2, b2) = (x.leaf("w2", Whole, &[d, h])?, x.leaf("b2", Whole, &[d])?);
        let (first, second) = (MlpLayer { w: &w1, bias: Some(&b1) }, MlpLayer { w: &w2, bias: Some(&b2) });
        let options = MlpOptions { hidden: DType::f16_if(precision == Precision::Mixed), ..MlpOptions::act(Act::Gelu) };
        Ok(vec![out("y", Axis(0), mlp(r, &input, first, second, options)?)])
    });
}

pub fn cases(c: &mut Cases) {
    case(c, "small".into(), [19, 24, 52], false);
    for s in c.scope.shapes() {
        case(c, s.to_string(), [s.rows(), s.d, 4 * s.d], true);
    }
}

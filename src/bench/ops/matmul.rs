//! matmul: the projections of a mixer and of an MLP; backward makes dx, dw and where there is a bias its gradient.

use super::*;
use cpu::matmul::{Dims, backward, forward};

/// States of a channel.
const N: usize = 16;

fn expect(v: &Values, s: usize, bias: bool) -> Result<Vec<Want>> {
    let (x, w, dy) = (v.get("x")?, v.get("w")?, v.get("dy")?);
    let m = v.picked.len();
    let k = x.len() / (s * m);
    let dim = Dims { s, m, n: w.len() / (s * k), k };
    let back = backward(dim, x, w, dy);
    // a sum of k products of order 1 wanders by 2.4e-8·k; eight times that
    let tol = |k: usize| Tol { rel: 2e-7, abs: 2e-7 * (4.0 + k as f64) };
    let y = forward(dim, x, w, bias.then(|| v.get("bias")).transpose()?, None);
    let mut wants = vec![want("y", y, tol(k)), want("dx", back.dx, tol(dim.n)), want("dw", back.dw, tol(m))];
    if bias {
        wants.push(want("dbias", back.dbias, tol(m)));
    }
    Ok(wants)
}

/// `s` products of (m, k) with (n, k).
fn case(c: &mut Cases, name: String, [s, m, n, k]: [usize; 4], bias: bool, timed: bool) {
    let (mk, nk, mn) = (s * m * k, s * n * k, s * m * n);
    let mut draft = c.case(name).fact("bias", bias).fact("batch", s);
    if timed {
        let forward = Floor::of(4 * (mk + nk + mn), 2 * mn * k, 0);
        let backward = Floor::of(4 * (2 * mk + 2 * nk + mn), 4 * mn * k, 0);
        draft = draft.floors([forward, backward]);
    }
    draft.check(16, "rows", move |v| expect(v, s, bias)).op(move |t, x| {
        let dense = usize::from(s == 1); // leaves out the first dimension
        let rows = Axis(1 - dense);
        let (x_shape, w_shape, b_shape) = ([s, m, k], [s, n, k], [s, n]);
        let (input, w) = (x.leaf("x", rows, &x_shape[dense..])?, x.leaf("w", Whole, &w_shape[dense..])?);
        let bias = bias.then(|| x.leaf("bias", Whole, &b_shape[dense..])).transpose()?;
        Ok(vec![out("y", rows, ops::matmul::matmul(x.g, t, &input, &w, bias.as_ref(), None)?)])
    });
}

pub fn cases(c: &mut Cases) {
    case(c, "small".into(), [1, 16, 72, 100], true, false);
    case(c, "split small".into(), [2, 301, 17, 23], false, false);
    for shape in c.scope.shapes() {
        let (m, d, e, r) = (shape.rows(), shape.d, shape.e(), shape.d.div_ceil(16));
        // name, directions, outputs, inputs, bias
        let projections = [
            ("in_proj", 1, 2 * e, d, false),
            ("x_proj", 2, r + 2 * N, e, false),
            ("dt_proj", 2, e, r, false),
            ("out_proj", 1, d, e, false),
            ("qkv", 1, 3 * d, d, true),
        ];
        for (name, s, n, k, bias) in projections {
            case(c, format!("{name} {shape}"), [s, m, n, k], bias, true);
        }
    }
}

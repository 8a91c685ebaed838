//! conv1d: the Mamba mixer's causal convolution with four taps and SiLU, in two directions, and MambaVision's with
//! three taps around the token.

use crate::bench::ops::*;
use cpu::conv1d::{Dims, backward, forward};

const S: usize = 2;
const K: usize = 4;
const SAME_TAPS: usize = 3;

fn expect(v: &Values, half: bool) -> Result<Vec<Want>> {
    let [b, l, width] = v.shape("xz")?;
    let e = width / 2;
    let dim = Dims { s: S, b, l, e, k: K, ldx: width, same: false };
    let (xz, w, bias) = (v.get("xz")?, v.get("w")?, v.get("bias")?);
    let grads = backward(dim, xz, w, bias, v.get("du")?);
    let dxz: Vec<f64> = grads.dx.chunks(e).flat_map(|dx| [dx.to_vec(), vec![0.0; e]].concat()).collect();
    // u, dxz: up to eight products of order 1, and SiLU; stored as f16, an error of 0.5 ulp. dw, dbias: sums of B·L
    // terms of random sign
    let tol = Tol { rel: if half { 4.9e-4 } else { 4e-6 }, abs: 1e-5 };
    let u = want("u", forward(dim, xz, w, bias), tol);
    Ok(vec![u, want("dxz", dxz, tol), near("dw", grads.dw, 1e-5), near("dbias", grads.dbias, 1e-5)])
}

/// In mixed precision xz, u and their gradients are f16, as in a model.
fn case(c: &mut Cases, name: String, [b, l, e]: [usize; 3], timed: bool) {
    let (n, half) = (b * l * e, c.scope.precision == Precision::Mixed);
    let floor = |bytes, flops| Floor::of(if half { bytes / 2 } else { bytes } * n, flops * n, S * n);
    let mut draft = c.case(name).fact("directions", S).fact("taps", K);
    if timed {
        // flops: backward computes c again, then dx and dw
        draft = draft.floors([floor(4 * (1 + S), 2 * K * S), floor(4 * (2 + S), 6 * K * S)]);
    }
    draft.check(2, "images", move |v| expect(v, half)).op(move |r, x| {
        let (w, bias) = (x.leaf("w", Whole, &[S, e, K])?, x.leaf("bias", Whole, &[S, e])?);
        let xz = x.leaf_in(half, "xz", Axis(0), &[b, l, 2 * e])?;
        Ok(vec![out("u", Axis(1), ops::conv1d::conv1d(r, &xz, &w, &bias, S)?)])
    });
}

fn expect_same(v: &Values, half: bool) -> Result<Vec<Want>> {
    let [b, l, e] = v.shape("x")?;
    let dim = Dims { s: 1, b, l, e, k: SAME_TAPS, ldx: e, same: true };
    let (x, w, bias) = (v.get("x")?, v.get("w")?, vec![0.0; e]);
    let grads = backward(dim, x, w, &bias, v.get("du")?);
    let tol = Tol { rel: if half { 4.9e-4 } else { 4e-6 }, abs: 1e-5 }; // as above
    Ok(vec![want("u", forward(dim, x, w, &bias), tol), want("dx", grads.dx, tol), near("dw", grads.dw, 1e-5)])
}

/// MambaVision's: three taps around the token, without bias and z.
fn same(c: &mut Cases, name: String, [b, l, e]: [usize; 3], timed: bool) {
    let (n, half, k) = (b * l * e, c.scope.precision == Precision::Mixed, SAME_TAPS);
    let floor = |bytes, flops| Floor::of(if half { bytes / 2 } else { bytes } * n, flops * n, n);
    let mut draft = c.case(name).fact("taps", k).fact("same", 1);
    if timed {
        draft = draft.floors([floor(8, 2 * k), floor(12, 6 * k)]);
    }
    draft.check(2, "images", move |v| expect_same(v, half)).op(move |r, x| {
        let w = x.leaf("w", Whole, &[e, k])?;
        let x = x.leaf_in(half, "x", Axis(0), &[b, l, e])?;
        Ok(vec![out("u", Axis(0), ops::conv1d::conv1d_same(r, &x, &w)?)])
    });
}

pub fn cases(c: &mut Cases) {
    same(c, "same, small".into(), [2, 67, c.scope.awkward()], false);
    case(c, "small".into(), [2, 67, c.scope.awkward()], false);
    for s in c.scope.shapes() {
        case(c, s.to_string(), [s.b, s.l, s.e()], true);
        same(c, format!("{s}, same"), [s.b, s.l, s.e()], true);
    }
}

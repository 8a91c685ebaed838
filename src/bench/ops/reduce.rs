//! reduce: the sum of all elements and the mean over tokens, with their gradients, and the sum over rows, which is the
//! gradient of a bias.

use crate::bench::ops::*;
use crate::tensor::Tensor;
use cpu::reduce as oracle;

fn expect_sum(v: &Values) -> Result<Vec<Want>> {
    let x = v.get("x")?;
    let size: f64 = x.iter().map(|v| v.abs()).sum();
    // up to 1e8 normal numbers summed in a tree: a few rounding errors of partial sums
    let sum = want("sum", vec![oracle::sum(x)], Tol { rel: 0.0, abs: 1e-7 * size });
    let d = v.get("dsum")?.first().copied().unwrap_or(0.0);
    Ok(vec![sum, want("dx", oracle::sum_backward(x.len(), d), Tol { rel: 6e-8, abs: 0.0 })])
}

fn expect_columns(v: &Values) -> Result<Vec<Want>> {
    let [_, cols] = v.shape("x")?;
    Ok(vec![near("columns", oracle::column_sum(cols, v.get("x")?), 1e-5)])
}

fn expect_mean(v: &Values) -> Result<Vec<Want>> {
    let [_, l, d] = v.shape("x")?;
    let mean = near("mean", oracle::mean_tokens(l, d, v.get("x")?), 1e-5);
    let tol = Tol { rel: 2e-7, abs: 0.0 }; // rounding errors of 1/L and of the product with it
    Ok(vec![mean, want("dx", oracle::mean_tokens_backward(l, d, v.get("dmean")?), tol)])
}

pub fn cases(c: &mut Cases) {
    for s in c.scope.few() {
        let (floor, shape) = (Floor::bytes(4 * s.rows() * s.d), [s.rows(), s.d]);
        let case = c.case(format!("sum {s}")).at(&s).floors([floor; 2]);
        case.check(s.rows(), "rows", expect_sum)
            .op(move |r, x| Ok(vec![out("sum", Whole, ops::reduce::sum(r, &x.leaf("x", Axis(0), &shape)?)?)]));
        let case = c.case(format!("mean_tokens {s}")).at(&s).floors([floor; 2]);
        case.check(2, "images", expect_mean).op(move |r, x| {
            let tokens = x.leaf("x", Axis(0), &[s.b, s.l, s.d])?;
            Ok(vec![out("mean", Axis(0), ops::reduce::mean_tokens(r, &tokens)?)])
        });
        let case = c.case(format!("columns {s}")).at(&s).floor(floor);
        case.check(s.rows(), "rows", expect_columns).launches(move |r, x| {
            let sums = Tensor::scratch("columns", &[s.d]);
            ops::reduce::column_sum(r, &x.normal("x", Axis(0), &shape)?, &sums)?;
            Ok(vec![result("columns", Whole, sums)])
        });
    }
}

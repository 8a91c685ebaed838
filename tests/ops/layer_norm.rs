use rowscan::cpu::layer_norm::{backward, forward};
use rowscan::ops;

use super::rms_norm::{Case, Values, run_norm};
use crate::common::{Tol, close, each_tier, round_to_half, wide, widened};

const EPS: f32 = 1e-5;

#[test]
fn layer_norm_matches_cpu() {
    each_tier(|g| {
        let mut cases: Vec<_> = Case::all().into_iter().map(|case| (case, 0.0, false)).collect();
        cases.push((Case::new(2, 5, 96, false, false), 300.0, false)); // mean ≫ deviation
        cases.extend(Case::halves().into_iter().map(|case| (case, 0.0, true)));
        for (case, by, half) in cases {
            let mut v = Values::new(&case);
            if half {
                round_to_half(&mut v.dy);
            }
            v.x.iter_mut().for_each(|x| *x += by);
            let found = run_norm(g, &case, &v, &[&v.w, &v.bias], &|r, x, residual, keep, w| {
                if !half {
                    return ops::layer_norm::layer_norm(r, x, residual, keep, &w[0], &w[1], EPS);
                }
                let (y, sum) = ops::layer_norm::layer_norm_half(r, x, residual, keep, &w[0], &w[1], EPS)?;
                Ok((widened(r, &y)?, sum))
            });
            let (dim, eps) = (case.dims(), f64::from(EPS));
            let (residual, keep) = (wide(&v.residual), wide(&v.keep));
            let (residual, keep) = (case.residual.then_some(&residual[..]), case.keep.then_some(&keep[..]));
            let want = forward(dim, &wide(&v.x), residual, keep, &wide(&v.w), &wide(&v.bias), eps);
            let back = backward(dim, &want.sum, keep, &wide(&v.w), eps, &wide(&v.dy), Some(&wide(&v.dsum)));
            let name = |what| format!("{what} ({}, {}, {})", case.b, case.l, case.d);
            // sum: one rounding each of product and sum
            close(&name("sum"), &found.sum, &want.sum, Tol { rel: 2e-7, abs: 2e-7 });
            // r is up to 3, so y and dx see about ten roundings of numbers up to 10 (those of the mean, if that is
            // larger); a row of one column has r = 316, times the rounding of its sum minus its mean (none: the mean is
            // exact)
            let tol = Tol { rel: 4e-6, abs: 6e-6 + 2e-7 * f64::from(by) };
            // as f16 y misses half a unit in the last of 11 places
            close(&name("y"), &found.y, &want.y, Tol { rel: if half { 4.9e-4 } else { tol.rel }, ..tol });
            close(&name("dx"), &found.grads[0], &back.dx, tol);
            // random walk over the rows: √rows roundings of partial sums of about √rows
            let rows = Tol { rel: 4e-6, abs: tol.abs + if dim.rows < 1000 { 0.0 } else { 4e-4 } };
            close(&name("dw"), &found.grads[1], &back.dw, rows);
            close(&name("db"), &found.grads[2], &back.dbias, rows);
            if case.residual {
                close(&name("dresidual"), &found.grads[3], &back.dresidual, tol);
            }
        }
    });
}

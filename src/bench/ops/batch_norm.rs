//! batch_norm: the maps of MambaVision's and ResNet's stages, in training and in evaluation.

use crate::bench::ops::*;
use cpu::activation::{self, Activation};
use cpu::batch_norm::{backward, forward, statistics};
use ops::batch_norm::{BatchNormAct, BatchNormOptions, BatchStatistics, batch_norm};

const EPS: f32 = 1e-5;

fn expect(v: &Values, half: bool) -> Result<Vec<Want>> {
    let (x, w, dy) = (v.get("x")?, v.get("w")?, v.get("dy")?);
    let of = statistics(x, w.len());
    let (of, eps) = ([&of[0][..], &of[1][..]], f64::from(EPS));
    let grads = backward(x, of, w, eps, dy, true);
    Ok(vec![
        near("y", forward(x, of, w, v.get("bias")?, eps), of_map(half)),
        near("dx", grads.dx, of_map(half)),
        near("dw", grads.dw, 1e-5), // sums over all rows
        near("dbias", grads.db, 1e-5),
    ])
}

/// The tolerance of a map: about ten roundings of f32, or the one of storage as f16.
fn of_map(half: bool) -> f64 {
    if half { 4.9e-4 } else { 4e-6 }
}

/// With SiLU behind it, which has no kink where a rounding decides the gradient.
fn expect_silu(v: &Values, half: bool) -> Result<Vec<Want>> {
    let (x, w, dy) = (v.get("x")?, v.get("w")?, v.get("dy")?);
    let of = statistics(x, w.len());
    let (of, eps) = ([&of[0][..], &of[1][..]], f64::from(EPS));
    let value = forward(x, of, w, v.get("bias")?, eps);
    let grads = backward(x, of, w, eps, &activation::backward(Activation::Silu, &value, dy), true);
    Ok(vec![
        near("y", activation::forward(Activation::Silu, &value), of_map(half)),
        near("dx", grads.dx, of_map(half)),
        near("dw", grads.dw, 1e-5), // sums over all rows
        near("dbias", grads.db, 1e-5),
    ])
}

/// In evaluation, with given statistics.
fn expect_given(v: &Values, half: bool) -> Result<Vec<Want>> {
    let (x, w, dy) = (v.get("x")?, v.get("w")?, v.get("dy")?);
    let (of, eps) = ([v.get("mean")?, v.get("var")?], f64::from(EPS));
    let grads = backward(x, of, w, eps, dy, false);
    Ok(vec![
        near("y", forward(x, of, w, v.get("bias")?, eps), of_map(half)),
        near("dx", grads.dx, of_map(half)),
        near("dw", grads.dw, 1e-5),
        near("dbias", grads.db, 1e-5),
    ])
}

/// Which statistics a case takes.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Batch,
    Running,
    Given,
    Silu,
}

pub fn cases(c: &mut Cases) {
    let (b, quick) = (c.scope.batch(), c.scope.quick);
    for (side, width, timed, kind) in [
        (3, c.scope.awkward(), false, Kind::Batch),
        (56, 80, true, Kind::Batch),
        (28, 160, !quick, Kind::Batch),
        (14, 1024, !quick, Kind::Batch),
        (14, 160, true, Kind::Running),
        (14, 160, true, Kind::Given),
        (56, 64, !quick, Kind::Silu),
    ] {
        let (rows, half) = (b * side * side, halved(c.scope, width));
        let name = ["", " running", " given", " silu"][kind as usize];
        let act = if kind == Kind::Silu { BatchNormAct::Silu } else { BatchNormAct::None };
        let mut draft = c.case(format!("{width} {side}x{side}x{b}{name}")).fact("eps", EPS);
        if timed {
            draft = draft.floors(
                [12, 20].map(|bytes| Floor::of(bytes * rows * width / if half { 2 } else { 1 }, 11 * rows * width, 0)),
            );
        }
        // the statistics are those of the whole batch, so all rows are compared
        let oracle = match kind {
            Kind::Given => expect_given,
            Kind::Silu => expect_silu,
            Kind::Batch | Kind::Running => expect,
        };
        draft.check(rows, "rows", move |v| oracle(v, half)).op(move |r, x| {
            let (input, w) = (x.leaf_in(half, "x", Axis(0), &[rows, width])?, x.leaf("w", Whole, &[width])?);
            let bias = x.leaf("bias", Whole, &[width])?;
            let variances: Vec<f32> = (0..width).map(|c| 0.5 + (c % 7) as f32 / 4.0).collect();
            let kept = match kind {
                Kind::Batch | Kind::Silu => None,
                _ => Some([x.normal("mean", Whole, &[width])?, x.values("var", Whole, &[width], &variances)?]),
            };
            let kept = kept.as_ref().map(|[mean, var]| [mean, var]);
            let statistics = match kept.filter(|_| kind == Kind::Given) {
                Some(given) => BatchStatistics::Given(given),
                None => BatchStatistics::Batch { running: kept, momentum: 0.1 },
            };
            let options = BatchNormOptions { statistics, eps: EPS, act };
            Ok(vec![out("y", Axis(0), batch_norm(r, &input, &w, &bias, options)?)])
        });
    }
}

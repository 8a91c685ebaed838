//! batch_norm: the maps of MambaVision's and ResNet's stages, in training and in evaluation.

use crate::bench::ops::*;
use cpu::batch_norm::{backward, forward, statistics};
use ops::batch_norm::{BatchNormAct, BatchNormOptions, BatchStatistics, batch_norm};

const EPS: f32 = 1e-5;

fn expect(v: &Values, half: bool) -> Result<Vec<Want>> {
    let (x, w, dy) = (v.get("x")?, v.get("w")?, v.get("dy")?);
    let of = statistics(x, w.len());
    let (of, eps) = ([&of[0][..], &of[1][..]], f64::from(EPS));
    let grads = backward(x, of, w, eps, dy, true);
    Ok(vec![
        near("y", forward(x, of, w, v.get("bias")?, eps), rounded(half)),
        near("dx", grads.dx, rounded(half)),
        near("dw", grads.dw, 1e-5), // sums over all rows
        near("dbias", grads.db, 1e-5),
    ])
}

/// The tolerance of a map: about ten roundings of f32, or the one of storage as f16.
fn rounded(half: bool) -> f64 {
    if half { 4.9e-4 } else { 4e-6 }
}

/// With ReLU behind it. Values next to its kink may fall on either side, and their gradients with them.
fn expect_relu(v: &Values, half: bool) -> Result<Vec<Want>> {
    let (x, w, dy) = (v.get("x")?, v.get("w")?, v.get("dy")?);
    let of = statistics(x, w.len());
    let (of, eps) = ([&of[0][..], &of[1][..]], f64::from(EPS));
    let value = forward(x, of, w, v.get("bias")?, eps);
    let seen: Vec<f64> = dy.iter().zip(&value).map(|(dy, v)| if *v > 0.0 { *dy } else { 0.0 }).collect();
    let grads = backward(x, of, w, eps, &seen, true);
    Ok(vec![
        near("y", value.into_iter().map(|v| v.max(0.0)).collect(), rounded(half)),
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
        near("y", forward(x, of, w, v.get("bias")?, eps), rounded(half)),
        near("dx", grads.dx, rounded(half)),
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
    Relu,
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
        (56, 64, !quick, Kind::Relu),
    ] {
        let (rows, half) = (b * side * side, halved(c.scope, width));
        let name = ["", " running", " given", " relu"][kind as usize];
        let act = if kind == Kind::Relu { BatchNormAct::Relu } else { BatchNormAct::None };
        let mut draft = c.case(format!("{width} {side}x{side}x{b}{name}")).fact("eps", EPS);
        if timed {
            draft = draft.floors(
                [12, 20].map(|bytes| Floor::of(bytes * rows * width / if half { 2 } else { 1 }, 11 * rows * width, 0)),
            );
        }
        // the statistics are those of the whole batch, so all rows are compared
        let oracle = match kind {
            Kind::Given => expect_given,
            Kind::Relu => expect_relu,
            Kind::Batch | Kind::Running => expect,
        };
        draft.check(rows, "rows", move |v| oracle(v, half)).op(move |r, x| {
            let (input, w) = (x.leaf_in(half, "x", Axis(0), &[rows, width])?, x.leaf("w", Whole, &[width])?);
            let bias = x.leaf("bias", Whole, &[width])?;
            let variances: Vec<f32> = (0..width).map(|c| 0.5 + (c % 7) as f32 / 4.0).collect();
            let kept = match kind {
                Kind::Batch | Kind::Relu => None,
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

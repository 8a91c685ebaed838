//! mse_norm: MAE's pixel loss over 196 patches of 16×16×3, half of them hidden.

use crate::bench::ops::*;
use cpu::mse_norm::{Dims, backward, forward, target};
use ops::mse_norm::{MseNormOptions, mse_norm};

fn expect(v: &Values, scale: f32) -> Result<Vec<Want>> {
    let [b, l, cols] = v.shape("pred")?;
    let (dim, scale) = (Dims { rows: b * l, cols, channels: 3 }, f64::from(scale));
    let (pred, tgt, mask) = (v.get("pred")?, v.get("tgt")?, v.get("mask")?);
    let loss = forward(dim, pred, tgt, mask, scale, Some(1e-6)).rows;
    let unit = backward(dim, pred, tgt, mask, scale, Some(1e-6), 1.0);
    let dpred = unit.chunks(cols).zip(v.get("dloss")?).flat_map(|(row, d)| row.iter().map(move |g| g * d)).collect();
    // loss: differences of numbers up to 5, squared and averaged. dpred: the difference times 2·scale/cols
    Ok(vec![near("loss", loss, 8e-6), near("dpred", dpred, 8e-6)])
}

fn expect_target(v: &Values) -> Result<Vec<Want>> {
    let [b, l, cols] = v.shape("tgt")?;
    let of = target(Dims { rows: b * l, cols, channels: 3 }, v.get("tgt")?, Some(1e-6));
    Ok(vec![want("target", of, Tol { rel: 4e-6, abs: 4e-6 })]) // mean and deviation are sums over a row
}

pub fn cases(c: &mut Cases) {
    let (l, cols) = (196, 768);
    for n in c.scope.batches() {
        let case = c.case(format!("target {l}x{n}")).floor(Floor::bytes(8 * n * l * cols));
        case.check(2, "images", expect_target).launches(move |r, x| {
            let tgt = x.normal("tgt", Axis(0), &[n, l, cols])?;
            Ok(vec![result("target", Axis(0), ops::mse_norm::target(r, &tgt, 3, Some(1e-6))?)])
        });
        let scale = 2.0 / (n * l) as f32;
        // half of the rows are read; for the others only dpred is written
        let floors = [8, 12 + 4].map(|bytes| Floor::bytes(bytes * n * l * cols / 2));
        let case = c.case(format!("decoder {l}x{n}")).fact("scale", scale).floors(floors);
        case.check(2, "images", move |v| expect(v, scale)).op(move |r, x| {
            let (pred, tgt) = (x.leaf("pred", Axis(0), &[n, l, cols])?, x.normal("tgt", Axis(0), &[n, l, cols])?);
            let hidden: Vec<f32> = (0..n * l).map(|row| (row % 2) as f32).collect();
            let mask = x.values("mask", Axis(0), &[n, l], &hidden)?;
            Ok(vec![out(
                "loss",
                Axis(0),
                mse_norm(r, &pred, &tgt, &mask, MseNormOptions { scale, ..MseNormOptions::default() })?,
            )])
        });
    }
}

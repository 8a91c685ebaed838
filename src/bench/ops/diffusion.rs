//! diffusion: the loss of MAR's diffusion head at four noise levels of the 98 hidden patches of an image, and the
//! noising of its targets.

use crate::bench::ops::*;
use crate::tensor::Tensor;
use cpu::diffusion::{Dims, Schedule as Exact, add_noise, backward, forward};
use ops::diffusion::NoiseSchedule;

const STEPS: usize = 1000;
const REPEATS: usize = 4;

/// Dimensions of the compared patches, and the diffusion step of each of their rows.
fn given(v: &Values) -> Result<(Dims, Vec<usize>)> {
    let [n, cols] = v.shape("x0")?;
    let t = v.indices("t")?.into_iter().map(|t| t as usize).collect();
    Ok((Dims { rows: REPEATS * n, n, cols, vlb: true }, t))
}

fn loss(v: &Values) -> Result<Vec<Want>> {
    let ((dim, t), exact) = (given(v)?, Exact::cosine(STEPS));
    let (pred, x0, eps, rows) = (v.get("pred")?, v.get("x0")?, v.get("eps")?, (REPEATS * v.samples) as f64);
    let found = forward(dim, &exact, pred, x0, eps, &t);
    let loss = found.mse.iter().zip(&found.vb).map(|(mse, vb)| (mse + vb) / rows).collect();
    let dloss: Vec<f64> = v.get("dloss")?.iter().map(|d| d / rows).collect();
    let dpred = backward(dim, &exact, pred, x0, eps, &t, &dloss);
    // errors of exp, and schedule tables that are rounded to f32
    Ok(vec![near("loss", loss, 2e-5), near("dpred", dpred, 4e-5)])
}

fn noised(v: &Values) -> Result<Vec<Want>> {
    let (dim, t) = given(v)?;
    let x = add_noise(dim, &Exact::cosine(STEPS), v.get("x0")?, v.get("eps")?, &t);
    Ok(vec![want("noised", x, Tol { rel: 2e-7, abs: 1e-6 })])
}

/// The schedule, and x0 (n, C), eps (R, n, C) and t (R, n), where R is `REPEATS`.
fn inputs(x: &Fill, n: usize, cols: usize) -> Result<(NoiseSchedule, [Tensor; 3])> {
    let steps: Vec<u32> = (0..(REPEATS * n) as u32).map(|i| i * 7 % STEPS as u32).collect();
    let x0 = x.normal("x0", Axis(0), &[n, cols])?;
    let eps = x.normal("eps", Axis(1), &[REPEATS, n, cols])?;
    Ok((NoiseSchedule::cosine(x.g, STEPS, 256)?, [x0, eps, x.table("t", Axis(1), &[REPEATS, n], &steps)?]))
}

pub fn cases(c: &mut Cases) {
    let (n, cols) = (98 * c.scope.batch(), 768);
    let rows = REPEATS * n;
    // forward reads ε̂, v and eps; backward reads them again and writes two gradients
    let floors = [12, 20].map(|bytes| Floor::of(bytes * rows * cols, 0, rows * cols));
    c.case(format!("loss {cols}x{rows}")).floors(floors).check(8, "patches", loss).op(move |r, x| {
        let (schedule, [x0, eps, times]) = inputs(x, n, cols)?;
        let pred = x.leaf("pred", Axis(1), &[REPEATS, n, 2 * cols])?;
        Ok(vec![out("loss", Axis(1), ops::diffusion::diffusion(r, &schedule, &pred, &x0, &eps, &times)?)])
    });
    let case = c.case(format!("add_noise {cols}x{rows}")).floor(Floor::bytes(8 * rows * cols));
    case.check(8, "patches", noised).launches(move |r, x| {
        let (schedule, [x0, eps, times]) = inputs(x, n, cols)?;
        Ok(vec![result("noised", Axis(1), ops::diffusion::add_noise(r, &schedule, &x0, &eps, &times)?)])
    });
}

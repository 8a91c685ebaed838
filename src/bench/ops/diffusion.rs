//! diffusion: the loss of MAR's diffusion head at four noise levels of the 98 hidden patches of an image, and the
//! noising of its targets.

use crate::bench::ops::*;
use crate::gpu::{Caps, Gpu};
use crate::tensor::Tensor;
use cpu::diffusion::{Dims, Schedule as Exact, add_noise, backward, denoise, embed_time, forward};
use ops::diffusion::{NoiseSchedule, SampleStep};

const STEPS: usize = 1000;
const REPEATS: usize = 4;
/// Length of the embedding of a noise level.
const TIME: usize = 256;

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

fn embedded(v: &Values) -> Result<Vec<Want>> {
    let time = embed_time(TIME, &given(v)?.1);
    Ok(vec![want("time", time, Tol { rel: 1e-7, abs: 1e-9 })]) // one rounding, of a table in f64
}

/// Steps of sampling, the one in the middle that is timed, and the bound on the predicted x0.
const SAMPLING: usize = 50;
const AT: usize = SAMPLING / 2;
const BOUND: f64 = 5.0;

/// The steps of sampling, the noisiest first.
fn sampling(x: &NoiseSchedule) -> Result<Vec<SampleStep>> {
    x.sampling(SAMPLING, 1.0, BOUND)
}

fn denoised(v: &Values, times: &[usize]) -> Result<Vec<Want>> {
    let [n, cols] = v.shape("x")?;
    let dim = Dims { rows: n, n, cols, vlb: true };
    let chain = Exact::cosine(STEPS).strided(times);
    let (pred, x, noise) = (v.get("pred")?, v.get("x")?, v.get("noise")?);
    let next = denoise(dim, &chain, pred, x, noise, SAMPLING - 1 - AT, BOUND);
    Ok(vec![want("x", next, Tol { rel: 4e-6, abs: 2e-5 })]) // x̂0 is up to BOUND, and so is its rounding
}

/// The schedule, and x0 (n, C), eps (R, n, C) and t (R, n), where R is `REPEATS`.
fn inputs(x: &Fill, n: usize, cols: usize) -> Result<(NoiseSchedule, [Tensor; 3])> {
    let steps: Vec<u32> = (0..(REPEATS * n) as u32).map(|i| i * 7 % STEPS as u32).collect();
    let x0 = x.normal("x0", Axis(0), &[n, cols])?;
    let eps = x.normal("eps", Axis(1), &[REPEATS, n, cols])?;
    Ok((NoiseSchedule::cosine(x.g, STEPS, TIME)?, [x0, eps, x.table("t", Axis(1), &[REPEATS, n], &steps)?]))
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
    let case = c.case(format!("denoise {cols}x{n}")).floor(Floor::bytes(20 * n * cols));
    case.check(8, "patches", |v| {
        let schedule = NoiseSchedule::cosine(&Gpu::dry(Caps::portable()), STEPS, TIME)?;
        let times: Vec<usize> = sampling(&schedule)?.iter().rev().map(|step| step.t as usize).collect();
        denoised(v, &times)
    })
    .launches(move |r, x| {
        let now = x.normal("x", Axis(0), &[n, cols])?;
        let (pred, noise) = (x.normal("pred", Axis(0), &[n, 2 * cols])?, x.normal("noise", Axis(0), &[n, cols])?);
        let step = sampling(&NoiseSchedule::cosine(x.g, STEPS, TIME)?)?[AT];
        let coefficients = Tensor::from_slice(x.g, &[8], &step.coefficients)?;
        ops::diffusion::denoise(r, &now, &pred, &noise, &coefficients)?;
        Ok(vec![result("x", Axis(0), now)])
    });
    let case = c.case(format!("embed_time {TIME}x{rows}")).floor(Floor::bytes(4 * rows * TIME));
    case.check(8, "patches", embedded).launches(move |r, x| {
        let (schedule, [_, _, times]) = inputs(x, n, 1)?;
        Ok(vec![result("time", Axis(1), ops::diffusion::embed_time(r, &schedule, &times)?)])
    });
    let case = c.case(format!("add_noise {cols}x{rows}")).floor(Floor::bytes(8 * rows * cols));
    case.check(8, "patches", noised).launches(move |r, x| {
        let (schedule, [x0, eps, times]) = inputs(x, n, cols)?;
        Ok(vec![result("noised", Axis(1), ops::diffusion::add_noise(r, &schedule, &x0, &eps, &times)?)])
    });
}

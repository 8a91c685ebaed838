//! diffusion: noising, the diffusion loss of MAR, and sampling. Maths: `shaders/diffusion.wgsl`.

use std::f64::consts::PI;

use super::norm::{ROW_WORKGROUPS, row_consts};
use crate::error::{Error, Result};
use crate::gpu::{Const, Gpu, Grid, Kernel, params, read, scalars, update, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `diffusion.wgsl`.
    pub(crate) struct Diffusion { rows: u32, n: u32, cols: u32, ld: u32, f: u32, scale: f32 }
}

const SRC: &str = wgsl!("diffusion", "grid", "reduce", "math");
const SUBGROUP: &str = wgsl!("diffusion", "grid", "reduce_subgroup", "math");
const CONSTS: &[Const] = &[Const::of("WG", ROW_WORKGROUPS)];

const ADD_NOISE: Kernel = Kernel::new::<Diffusion>(
    "diffusion.add_noise",
    SRC,
    &[read(2, "x0"), read(3, "eps"), read(4, "t").u32(), read(5, "table"), write(9, "noised")],
)
.consts(CONSTS);
const EMBED_TIME: Kernel =
    Kernel::new::<Diffusion>("diffusion.embed_time", SRC, &[read(4, "t").u32(), read(10, "waves"), write(11, "time")])
        .consts(CONSTS);
const FORWARD: Kernel = Kernel::new::<Diffusion>(
    "diffusion.forward",
    SRC,
    &[read(1, "pred"), read(2, "x0"), read(3, "eps"), read(4, "t").u32(), read(5, "table"), write(6, "loss")],
)
.subgroup(SUBGROUP)
.consts(CONSTS);
const BACKWARD: Kernel = Kernel::new::<Diffusion>(
    "diffusion.backward",
    SRC,
    &[
        read(1, "pred"),
        read(2, "x0"),
        read(3, "eps"),
        read(4, "t").u32(),
        read(5, "table"),
        read(7, "dloss"),
        write(8, "dpred"),
    ],
)
.consts(CONSTS);
const DENOISE: Kernel = Kernel::new::<Diffusion>(
    "diffusion.denoise",
    SRC,
    &[read(1, "pred"), read(3, "eps"), read(12, "step"), update(13, "x")],
)
.consts(CONSTS);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&ADD_NOISE, &EMBED_TIME, &FORWARD, &BACKWARD, &DENOISE];

/// A noise schedule: how much of x0 and how much noise x_t holds at each of T steps, as tables that kernels read.
#[derive(Debug, Clone)]
pub struct NoiseSchedule {
    /// ᾱ of each step: the share of x0 in the variance of x_t.
    alpha_bar: Vec<f64>,
    /// (T, 4): the rows of [`Step::table`].
    table: Tensor,
    /// (T, F): the rows that [`embed_time`] looks up.
    waves: Tensor,
}

/// One step of sampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleStep {
    /// The step t of the schedule, which is embedded for the network.
    pub t: u32,
    /// The coefficients that [`denoise`] reads.
    pub coefficients: [f32; 8],
}

impl NoiseSchedule {
    /// The cosine schedule with T = `steps`, and embeddings of F = `width` numbers: ᾱ(u) = cos²((u + 0.008)/1.008·π/2),
    /// with β at most 0.999.
    ///
    /// MAR: `create_diffusion(noise_schedule="cosine")`. Source: Nichol and Dhariwal 2021 (iDDPM).
    ///
    /// # Errors
    ///
    /// If T is not 2 to 65536, or if F is odd or 0.
    pub fn cosine(g: &Gpu, steps: usize, width: usize) -> Result<Self> {
        if !(2..=1 << 16).contains(&steps) || width == 0 || !width.is_multiple_of(2) {
            let got = format!("{steps} steps, {width} waves");
            return Err(Error::argument("diffusion: schedule", got, "2 to 65536 steps, an even number of waves"));
        }
        let exact = |i: usize| ((i as f64 / steps as f64 + 0.008) / 1.008 * PI / 2.0).cos().powi(2);
        let mut product = 1.0;
        let mut alpha_bar = Vec::with_capacity(steps);
        for i in 0..steps {
            product *= 1.0 - (1.0 - exact(i + 1) / exact(i)).min(0.999);
            alpha_bar.push(product);
        }
        let table: Vec<f32> = (0..steps).flat_map(|i| Step::of(&alpha_bar, i).table(i)).collect();
        let half = width / 2;
        let angle = |t: usize, j: usize| t as f64 * 10_000f64.powf(-(j as f64) / half as f64);
        let wave = |t: usize, j: usize| if j < half { angle(t, j).cos() } else { angle(t, j - half).sin() };
        let waves: Vec<f32> = (0..steps).flat_map(|t| (0..width).map(move |j| wave(t, j) as f32)).collect();
        Ok(Self {
            table: Tensor::from_slice(g, &[steps, 4], &table)?,
            waves: Tensor::from_slice(g, &[steps, width], &waves)?,
            alpha_bar,
        })
    }

    /// The number of steps T.
    pub fn steps(&self) -> usize {
        self.alpha_bar.len()
    }

    /// The steps of sampling: `count` evenly spaced ones of the schedule, from the last to the first, which is the
    /// order to run them in.
    ///
    /// `temperature` scales the noise that a step adds. The x0 that a step predicts is clamped to ±`bound`, without
    /// which a small error of the first steps grows without end. MAR:
    /// `create_diffusion(timestep_respacing=str(count))`.
    ///
    /// # Errors
    ///
    /// If `count` is not 2 to T.
    pub fn sampling(&self, count: usize, temperature: f64, bound: f64) -> Result<Vec<SampleStep>> {
        let last = self.steps() - 1;
        if !(2..=self.steps()).contains(&count) {
            return Err(Error::argument("sampling steps", count, format!("2 to {}", self.steps())));
        }
        let at = |i: usize| (i * last + (count - 1) / 2) / (count - 1); // i·last/(count − 1), rounded
        let chain: Vec<f64> = (0..count).map(|i| self.alpha_bar[at(i)]).collect();
        let step = |i: usize| SampleStep {
            t: at(i) as u32,
            coefficients: Step::of(&chain, i).coefficients(if i > 0 { temperature } else { 0.0 }, bound),
        };
        Ok((0..count).rev().map(step).collect())
    }
}

/// A step of a chain: of the whole schedule, or of the steps that sampling takes.
struct Step {
    /// ᾱ_t
    alpha_bar: f64,
    /// ᾱ_{t−1}, 1 at the first step.
    before: f64,
    /// β_t
    beta: f64,
    /// ln β̃_t, the log variance of the posterior. At the first step, where β̃ is 0, that of the second (as in ADM).
    log_posterior: f64,
}

impl Step {
    fn of(chain: &[f64], i: usize) -> Self {
        let before = |i: usize| if i == 0 { 1.0 } else { chain[i - 1] };
        let beta = |i: usize| 1.0 - chain[i] / before(i);
        let posterior = |i: usize| beta(i) * (1.0 - before(i)) / (1.0 - chain[i]);
        let (alpha_bar, before) = (chain[i], before(i));
        Self { alpha_bar, before, beta: beta(i), log_posterior: posterior(i.max(1)).ln() }
    }

    /// Row `i` of the kernels' table: √ᾱ, √(1−ᾱ), ln β − ln β̃, and κ, or ln β̃ in row 0.
    fn table(&self, i: usize) -> [f32; 4] {
        let kappa = self.beta / ((1.0 - self.beta) * (1.0 - self.before));
        let last = if i == 0 { self.log_posterior } else { kappa };
        let (signal, noise) = (self.alpha_bar.sqrt(), (1.0 - self.alpha_bar).sqrt());
        [signal, noise, self.beta.ln() - self.log_posterior, last].map(|v| v as f32)
    }

    /// The eight numbers `step` of the kernel `denoise`.
    fn coefficients(&self, temperature: f64, bound: f64) -> [f32; 8] {
        let c1 = self.beta * self.before.sqrt() / (1.0 - self.alpha_bar);
        let c2 = (1.0 - self.before) * (1.0 - self.beta).sqrt() / (1.0 - self.alpha_bar);
        let spread = self.beta.ln() - self.log_posterior;
        let root = self.alpha_bar.sqrt();
        let noise = -(1.0 - self.alpha_bar).sqrt() / root;
        [1.0 / root, noise, c1, c2, self.log_posterior, spread, temperature, bound].map(|v| v as f32)
    }
}

/// Noised versions of x0, R of each row: √ᾱ_t·x0 + √(1−ᾱ_t)·eps.
///
/// - Shapes: x0 (n, C), eps (R, n, C), steps t (R, n) u32 → (R, n, C).
/// - MAR: `diffusion.q_sample(x_start=x0, t=t, noise=eps)`.
/// - Source: Ho et al. 2020 (DDPM).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::diffusion::{NoiseSchedule, add_noise}, tape::*, tensor::Tensor};
/// let schedule = NoiseSchedule::cosine(g, 1000, 4)?;
/// let x0 = Tensor::from_slice(g, &[2, 2], &[1.0, 0.0, 1.0, 0.0])?;
/// let eps = Tensor::from_slice(g, &[1, 2, 2], &[0.0, 1.0, 0.0, 1.0])?;
/// let t = Tensor::from_indices(g, &[1, 2], &[0, 999])?; // the first and the last step
/// let mut r = Recorder::inference(g);
/// let noised = add_noise(&mut r, &schedule, &x0, &eps, &t)?;
/// r.run()?;
/// assert_close(&noised.to_vec(g)?, &[1.0, 0.0, 0.0, 1.0], 1e-2); // nearly x0, and nearly eps
/// # Ok(()) });
/// ```
pub fn add_noise(r: &mut Recorder, s: &NoiseSchedule, x0: &Tensor, eps: &Tensor, t: &Tensor) -> Result<Tensor> {
    let p = scalars(x0, eps, t, 0)?;
    let out = Tensor::scratch("noised", eps.shape());
    r.launch(&ADD_NOISE, Grid::items(out.len(), 256), &p, &[x0, eps, t, &s.table, &out])?;
    Ok(out)
}

/// The sinusoidal embedding of steps: F/2 cosines, then F/2 sines, of t·10000^(−j/(F/2)).
///
/// - Shapes: t (R, n) u32 → (R, n, F).
/// - MAR: `TimestepEmbedder.timestep_embedding(t, F)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::diffusion::{NoiseSchedule, embed_time}, tape::*, tensor::Tensor};
/// let schedule = NoiseSchedule::cosine(g, 1000, 4)?;
/// let t = Tensor::from_indices(g, &[1, 2], &[0, 100])?;
/// let mut r = Recorder::inference(g);
/// let time = embed_time(&mut r, &schedule, &t)?;
/// r.run()?;
/// let expected = [1.0, 1.0, 0.0, 0.0, 100f32.cos(), 1f32.cos(), 100f32.sin(), 1f32.sin()];
/// assert_close(&time.to_vec(g)?, &expected, 1e-5);
/// # Ok(()) });
/// ```
pub fn embed_time(r: &mut Recorder, s: &NoiseSchedule, t: &Tensor) -> Result<Tensor> {
    let f = s.waves.shape()[1];
    let out = Tensor::scratch("time", &[t.shape(), &[f]].concat());
    let p = scalars!(Diffusion { rows: t.len(), n: 0, cols: 0, ld: 0, f, scale: 0.0 });
    r.launch(&EMBED_TIME, Grid::items(out.len(), 256), &p, &[t, &s.waves, &out])?;
    Ok(out)
}

/// The diffusion loss: squared error of the predicted noise, plus the variational bound for the predicted variance, as
/// the share of each row in the mean loss.
///
/// The sum of the result is the mean over rows, because each row is divided by R·n. `pred` holds noise | variance, or
/// noise alone; without a variance there is no bound. The bound sends no gradient to the noise, as in ADM.
///
/// - Shapes: `pred` (R, n, 2C) or (R, n, C), x0 (n, C), eps (R, n, C), `times` (R, n) u32 → (R, n).
/// - MAR: `diffusion.training_losses(net, x0, t)["loss"]` with `learn_sigma=True`, before the mean over rows.
/// - Source: Nichol and Dhariwal 2021 (iDDPM); as the loss of a masked model: Li et al. 2024 (MAR).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::diffusion::{NoiseSchedule, diffusion}, tape::*, tensor::Tensor};
/// let schedule = NoiseSchedule::cosine(g, 1000, 4)?;
/// let (x0, eps) = (Tensor::from_slice(g, &[2, 1], &[0.0; 2])?, Tensor::from_slice(g, &[1, 2, 1], &[0.0; 2])?);
/// let times = Tensor::from_indices(g, &[1, 2], &[10, 500])?;
/// let pred = Var::leaf(Tensor::from_slice(g, &[1, 2, 1], &[1.0, 3.0])?); // errors 1 and 3
/// let mut r = Recorder::inference(g);
/// let loss = diffusion(&mut r, &schedule, &pred, &x0, &eps, &times)?;
/// r.run()?;
/// assert_close(&loss.data.to_vec(g)?, &[0.5, 4.5], 1e-6); // 1²/2, 3²/2
/// # Ok(()) });
/// ```
pub fn diffusion(
    r: &mut Recorder, s: &NoiseSchedule, pred: &Var, x0: &Tensor, eps: &Tensor, times: &Tensor,
) -> Result<Var> {
    let (rows, ld) = pred.data.rows_cols();
    let p = scalars(x0, eps, times, ld)?;
    let cols = p.cols as usize;
    if rows != p.rows as usize || ld != cols && ld != 2 * cols {
        let expected = format!("{} rows of {cols} or {}", p.rows, 2 * cols);
        return Err(Error::argument("diffusion: pred", format!("{:?}", pred.data.shape()), expected));
    }
    let loss = Tensor::scratch("loss", times.shape());
    let consts = row_consts(r.caps(), cols);
    let args = [&pred.data, x0, eps, times, &s.table, &loss];
    r.launch_with(&FORWARD, &consts, Grid::rows(rows), &p, &args)?;
    let (x0, eps, times, table) = (x0.clone(), eps.clone(), times.clone(), s.table.clone());
    Ok(r.push(pred, loss, move |r, pred, dloss, grads| {
        let dpred = grads.alloc(&pred);
        let args = [&pred.data, &x0, &eps, &times, &table, dloss, &dpred];
        r.launch(&BACKWARD, Grid::items(rows * cols, 256), &p, &args)?;
        grads.add(r, &pred, dpred)
    }))
}

/// Takes one step of sampling: updates x from x_t to x_{t−1}, in place.
///
/// `pred` is the network's output for x_t, noise | variance or noise alone, and `noise` is fresh standard normal noise.
/// `coefficients` are those of a [`SampleStep`], in a buffer so that one recorded step serves the whole chain. The last
/// step of a chain adds no noise.
///
/// - Shapes: x (.., C), `pred` (.., 2C) or (.., C), `noise` (.., C), `coefficients` (8).
/// - MAR: `diffusion.p_sample(net, x, t, temperature=…)["sample"]`.
/// - Source: Ho et al. 2020 (DDPM); the variance: Nichol and Dhariwal 2021 (iDDPM).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, tape::*, tensor::Tensor};
/// # use rowscan::ops::diffusion::{NoiseSchedule, add_noise, denoise};
/// # let schedule = NoiseSchedule::cosine(g, 1000, 4)?;
/// # let (x0, t) = (Tensor::from_slice(g, &[1, 1], &[0.5])?, Tensor::from_indices(g, &[1, 1], &[0])?);
/// # let eps = Tensor::from_slice(g, &[1, 1, 1], &[1.0])?;
/// let last = schedule.sampling(50, 1.0, 5.0)?[49]; // t = 0
/// let coefficients = Tensor::from_slice(g, &[8], &last.coefficients)?;
/// let mut r = Recorder::inference(g);
/// let x = add_noise(&mut r, &schedule, &x0, &eps, &t)?; // x0 = 0.5, eps = 1, t = 0
/// denoise(&mut r, &x, &eps, &eps, &coefficients)?; // the network predicts eps
/// r.run()?;
/// assert_close(&x.to_vec(g)?, &[0.5], 1e-5); // x0 again
/// # Ok(()) });
/// ```
pub fn denoise(r: &mut Recorder, x: &Tensor, pred: &Tensor, noise: &Tensor, coefficients: &Tensor) -> Result<()> {
    let ((rows, cols), (pred_rows, ld)) = (x.rows_cols(), pred.rows_cols());
    coefficients.expect_shape("denoise: coefficients", &[8])?;
    noise.expect_shape("denoise: noise", x.shape())?;
    if rows != pred_rows || ld != cols && ld != 2 * cols {
        let expected = format!("{rows} rows of {cols} or {}", 2 * cols);
        return Err(Error::argument("denoise: pred", format!("{:?}", pred.shape()), expected));
    }
    let p = scalars!(Diffusion { rows, n: rows, cols, ld, f: 0, scale: 0.0 });
    r.launch(&DENOISE, Grid::items(x.len(), 256), &p, &[pred, noise, coefficients, x])
}

fn scalars(x0: &Tensor, eps: &Tensor, t: &Tensor, ld: usize) -> Result<Diffusion> {
    let [r, n, cols] = eps.dims("diffusion: eps")?;
    x0.expect_shape("diffusion: x0", &[n, cols])?;
    t.expect_shape("diffusion: t", &[r, n])?;
    let rows = r * n;
    Ok(scalars!(Diffusion { rows, n, cols, ld, f: 0, scale: 1.0 / rows as f32 }))
}

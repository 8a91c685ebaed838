use rowscan::cpu::diffusion as oracle;
use rowscan::cpu::diffusion::Dims;
use rowscan::gpu::Gpu;
use rowscan::ops::diffusion::{NoiseSchedule, add_noise, denoise, diffusion, embed_time};
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, at_once, close, each_tier, gpu, leaf, run, values, wide};

const STEPS: usize = 1000;

/// Cases: (repeats, n, C, vlb).
fn cases() -> Vec<(usize, usize, usize, bool)> {
    let mut cases = vec![(1, 1, 1, true), (4, 3, 768, true), (4, 8193, 2, true), (2, 7, 1031, false)];
    let mut random = Random::new(9);
    cases.extend((0..8).map(|_| {
        let n = random.below(4, 1 << 16).iter().map(|&n| n as usize).collect::<Vec<_>>();
        (1 + n[0] % 4, 1 + n[1] % 40, 1 + n[2] % 300, n[3] % 4 > 0)
    }));
    cases
}

struct Case {
    dim: Dims,
    pred: Vec<f32>,
    x0: Vec<f32>,
    eps: Vec<f32>,
    t: Vec<u32>,
}

impl Case {
    fn new((repeats, n, cols, vlb): (usize, usize, usize, bool)) -> Self {
        let rows = repeats * n;
        let mut random = Random::new((rows * cols) as u64);
        let (x0, eps) = (random.normal(n * cols), random.normal(rows * cols));
        let mut t = random.below(rows, STEPS as u32);
        t[0] = 0; // the step with a loss of its own, the likelihood of a pixel level
        // as of a network in training: the predicted noise is near eps, the variance between its bounds
        let mut pred: Vec<f32> = eps.iter().zip(random.normal(rows * cols)).map(|(e, off)| e + 0.3 * off).collect();
        if vlb {
            let v = random.uniform(rows * cols, -1.0, 1.0);
            pred = pred.chunks(cols).zip(v.chunks(cols)).flat_map(|(e, v)| [e, v].concat()).collect();
        }
        Self { dim: Dims { rows, n, cols, vlb }, pred, x0, eps, t }
    }

    /// x0, eps and t on the device.
    fn on(&self, g: &Gpu) -> [Tensor; 3] {
        let Dims { rows, n, cols, .. } = self.dim;
        let of = |shape: &[usize], v: &[f32]| Tensor::from_slice(g, shape, v).expect("on the device");
        let t = Tensor::from_indices(g, &[rows / n, n], &self.t).expect("t");
        [of(&[n, cols], &self.x0), of(&[rows / n, n, cols], &self.eps), t]
    }

    fn steps(&self) -> Vec<usize> {
        self.t.iter().map(|&t| t as usize).collect()
    }
}

#[test]
fn diffusion_matches_cpu() {
    each_tier(|g| {
        let (schedule, exact) = (NoiseSchedule::cosine(g, STEPS, 8).unwrap(), oracle::Schedule::cosine(STEPS));
        for shape in cases() {
            let case = Case::new(shape);
            let Dims { rows, n, cols, vlb } = case.dim;
            let [x0, eps, t] = case.on(g);
            let dloss = Random::new(1).normal(rows);
            let ld = if vlb { 2 * cols } else { cols };
            let pred = leaf(g, &[rows / n, n, ld], &case.pred);
            let (loss, grads) = run(g, &[pred], &dloss, |r, v| diffusion(r, &schedule, &v[0], &x0, &eps, &t));
            let noised = values(g, |r| add_noise(r, &schedule, &x0, &eps, &t));
            let (pred, x0, eps, t) = (wide(&case.pred), wide(&case.x0), wide(&case.eps), case.steps());
            // two products and their sum
            let want = oracle::add_noise(case.dim, &exact, &x0, &eps, &t);
            close(&format!("noised {shape:?}"), &noised, &want, Tol { rel: 2e-7, abs: 1e-6 });
            let out = oracle::forward(case.dim, &exact, &pred, &x0, &eps, &t);
            let want: Vec<f64> = out.mse.iter().zip(&out.vb).map(|(mse, vb)| (mse + vb) / rows as f64).collect();
            let dloss: Vec<f64> = wide(&dloss).iter().map(|d| d / rows as f64).collect();
            let dpred = oracle::backward(case.dim, &exact, &pred, &x0, &eps, &t, &dloss);
            // loss: sums of squares and exps; Δ and κ rounded to f32; at t = 0 a difference of two normal CDFs Φ
            // cancels
            close(&format!("loss {shape:?}"), &loss, &want, Tol { rel: 2e-5, abs: 2e-6 / rows as f64 });
            let abs = 1e-5 / (rows * cols) as f64;
            close(&format!("dpred {shape:?}"), &grads[0], &dpred, Tol { rel: 4e-5, abs });
        }
    });
}

/// Predictions that are far off stay finite. At t = 0 the bin of a pixel level has no mass or is open to one side; the
/// variance leaves its bounds.
#[test]
fn nothing_overflows() {
    each_tier(|g| {
        let schedule = NoiseSchedule::cosine(g, STEPS, 8).unwrap();
        let sizes = [-1e3f32, -30.0, -1.0, 0.0, 1.0, 30.0, 1e3];
        let mut pred = Vec::new();
        sizes.iter().for_each(|&e| sizes.iter().for_each(|&v| pred.extend([e, v])));
        let n = pred.len() / 2;
        let on = |shape: &[usize], v: &[f32]| Tensor::from_slice(g, shape, v).unwrap();
        for (t, x0) in [(0, -2.0), (0, 0.0), (0, 2.0), (1, 0.0), (999, 0.0)] {
            let (x0, eps) = (on(&[n, 1], &vec![x0; n]), on(&[1, n, 1], &vec![0.0; n]));
            let t = Tensor::from_indices(g, &[1, n], &vec![t; n]).unwrap();
            let (loss, grads) = run(g, &[leaf(g, &[1, n, 2], &pred)], &vec![1.0; n], |r, v| {
                diffusion(r, &schedule, &v[0], &x0, &eps, &t)
            });
            assert!(loss.iter().chain(&grads[0]).all(|v| v.is_finite()), "{loss:?} {:?}", grads[0]);
        }
    });
}

#[test]
fn times_are_waves() {
    each_tier(|g| {
        let schedule = NoiseSchedule::cosine(g, STEPS, 256).unwrap();
        let t: Vec<u32> = (0..1000).chain([7, 999, 0]).collect();
        let on = Tensor::from_indices(g, &[1, t.len()], &t).unwrap();
        let got = values(g, |r| embed_time(r, &schedule, &on));
        let want = oracle::embed_time(256, &t.iter().map(|&t| t as usize).collect::<Vec<_>>());
        close("time", &got, &want, Tol { rel: 1e-7, abs: 1e-9 }); // one rounding, of an f64 table
    });
}

#[test]
fn sampling_matches_cpu() {
    each_tier(|g| {
        let schedule = NoiseSchedule::cosine(g, STEPS, 8).unwrap();
        let (count, n, cols) = (50, 5, 33);
        let steps = schedule.sampling(count, 1.0, 5.0).unwrap();
        let times: Vec<usize> = steps.iter().rev().map(|s| s.t as usize).collect();
        assert_eq!((times[0], times[count - 1], times.len()), (0, STEPS - 1, count));
        assert!(times.windows(2).all(|w| (20..=21).contains(&(w[1] - w[0]))), "{times:?}");
        let chain = oracle::Schedule::cosine(STEPS).strided(&times);
        for vlb in [true, false] {
            let mut random = Random::new(3);
            let x = Tensor::from_slice(g, &[n, cols], &random.normal(n * cols)).unwrap();
            let dim = Dims { rows: n, n, cols, vlb };
            for (at, step) in steps.iter().enumerate() {
                let before = x.to_vec(g).unwrap();
                let pred = random.uniform(n * cols * if vlb { 2 } else { 1 }, -1.0, 1.0);
                let noise = random.normal(n * cols);
                let on = |shape: &[usize], v: &[f32]| Tensor::from_slice(g, shape, v).unwrap();
                let coefficients = on(&[8], &step.coefficients);
                let pred_on = on(&[n, pred.len() / n], &pred);
                at_once(g, |r| denoise(r, &x, &pred_on, &on(&[n, cols], &noise), &coefficients));
                let want =
                    oracle::denoise(dim, &chain, &wide(&pred), &wide(&before), &wide(&noise), count - 1 - at, 5.0);
                // the first step divides by √ᾱ, about 1/6000, which multiplies the rounding of x by 6000
                let abs = 4e-6 * f64::from((step.coefficients[0] * step.coefficients[2]).max(1.0));
                close(&format!("step {}", step.t), &x.to_vec(g).unwrap(), &want, Tol { rel: 4e-6, abs });
            }
        }
    });
}

#[test]
fn diffusion_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let schedule = NoiseSchedule::cosine(g, STEPS, 8).unwrap();
    let tensor = |shape: &[usize]| Tensor::input("given", shape);
    let (x0, eps, t) = (tensor(&[3, 5]), tensor(&[2, 3, 5]), tensor(&[2, 3]));
    let loss = |pred: &[usize], x0: &Tensor, t: &Tensor| {
        let r = &mut Recorder::inference(g);
        diffusion(r, &schedule, &Var::leaf(tensor(pred)), x0, &eps, t).unwrap_err().to_string()
    };
    assert!(loss(&[2, 3, 7], &x0, &t).contains("diffusion: pred"));
    assert!(loss(&[2, 3, 10], &eps, &t).contains("diffusion: x0"));
    assert!(loss(&[2, 3, 10], &x0, &x0).contains("diffusion: t"));
    assert!(NoiseSchedule::cosine(g, 1, 8).is_err() && NoiseSchedule::cosine(g, 10, 7).is_err());
    assert!(schedule.sampling(1, 1.0, 5.0).is_err() && schedule.sampling(1001, 1.0, 5.0).is_err());
}

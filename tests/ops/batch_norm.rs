use rowscan::Result;
use rowscan::cpu::activation::{Activation as Oracle, backward as slope, forward as activate};
use rowscan::cpu::batch_norm as cpu;
use rowscan::gpu::{DType, Gpu};
use rowscan::ops::activation::relu;
use rowscan::ops::batch_norm::{BatchNormAct, BatchNormOptions, BatchStatistics, batch_norm};
use rowscan::ops::reduce;
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, round_to_f16, run, some, stored_as, wide};

const EPS: f32 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// Values of one case. The columns are at least 0.5 and at most −0.5 in turn, around `mean`: the inverse of a tiny
/// deviation would magnify f32 rounding.
struct Values {
    rows: usize,
    c: usize,
    mean: f32,
    x: Vec<f32>,
    w: Vec<f32>,
    b: Vec<f32>,
    dy: Vec<f32>,
    running: [Vec<f32>; 2],
    /// Whether maps are stored as f16.
    half: bool,
}

impl Values {
    fn new(rows: usize, c: usize, mean: f32) -> Self {
        let mut random = Random::new((rows * 31 + c) as u64);
        let spread = |(i, v): (usize, f32)| mean + if (i / c).is_multiple_of(2) { 0.5 + v } else { -0.5 - v };
        Self {
            rows,
            c,
            mean,
            x: random.uniform(rows * c, 0.0, 2.0).into_iter().enumerate().map(spread).collect(),
            w: random.uniform(c, 0.5, 1.5),
            b: random.normal(c),
            dy: random.normal(rows * c),
            running: [random.normal(c), random.uniform(c, 0.5, 2.0)],
            half: false,
        }
    }

    /// [`Values::new`] with x and dy in f16.
    fn in_f16(rows: usize, c: usize, mean: f32) -> Self {
        let mut v = Self { half: true, ..Self::new(rows, c, mean) };
        [&mut v.x, &mut v.dy].into_iter().for_each(|values| round_to_f16(values));
        v
    }

    fn check(&self, g: &Gpu, training: bool) {
        self.check_act(g, training, BatchNormAct::None);
    }

    fn check_act(&self, g: &Gpu, training: bool, act: BatchNormAct) {
        let &Self { rows, c, mean, half, .. } = self;
        let leaves = [leaf(g, &[rows, c], &self.x), leaf(g, &[c], &self.w), leaf(g, &[c], &self.b)];
        let [running_mean, running_var] =
            self.running.each_ref().map(|v| Tensor::from_slice(g, &[c], v).expect("tensor"));
        let running = [&running_mean, &running_var];
        let (x, w, b, mut dy) = (wide(&self.x), wide(&self.w), wide(&self.b), wide(&self.dy));
        let before = self.running.each_ref().map(|v| wide(v));
        let before = [&before[0][..], &before[1][..]];
        let of_batch = cpu::statistics(&x, c);
        let statistics = if training { [&of_batch[0][..], &of_batch[1][..]] } else { before };
        let value = cpu::forward(&x, statistics, &w, &b, f64::from(EPS));
        // next to the kink of ReLU f32 may fall on the other side
        dy.iter_mut().zip(&value).filter(|(_, v)| v.abs() < 1e-4).for_each(|(dy, _)| *dy = 0.0);
        let given: Vec<f32> = dy.iter().map(|v| *v as f32).collect();
        let (y, grads) = run(g, &leaves, &given, |r, v| {
            let statistics = match training {
                true => BatchStatistics::Batch { running: Some(running), momentum: MOMENTUM },
                false => BatchStatistics::Given(running),
            };
            let x = stored_as(r, &v[0], DType::f16_if(half))?;
            let y = batch_norm(r, &x, &v[1], &v[2], BatchNormOptions { statistics, eps: EPS, act })?;
            assert_eq!(y.data.is_f16(), half);
            stored_as(r, &y, DType::F32)
        });
        let oracle = match act {
            BatchNormAct::None => None,
            BatchNormAct::Relu => Some(Oracle::Relu),
            BatchNormAct::Silu => Some(Oracle::Silu),
            BatchNormAct::GeluTanh => Some(Oracle::GeluTanh),
        };
        let want = oracle.map_or_else(|| value.clone(), |act| activate(act, &value));
        let dvalue = oracle.map_or_else(|| dy.clone(), |act| slope(act, &value, &dy));
        let back = cpu::backward(&x, statistics, &w, f64::from(EPS), &dvalue, training);
        let name = |what| format!("{what} ({rows}, {c}) around {mean}, training {training}, {act:?}, f16 {half}");
        // n is up to 6 and 1/σ up to 2: about ten roundings of such numbers. A far mean costs nothing in training; in
        // evaluation x − μ is exact, as μ is given.
        let tol = Tol { rel: 4e-6, abs: 6e-6 };
        close(&name("y"), &y, &want, tol.or_f16(half));
        // sums over rows: a random walk, √rows roundings of partial sums of about √rows
        let sums = Tol { rel: 4e-6, abs: 4e-7 * (10.0 + rows as f64) };
        close(&name("dw"), &grads[1], &back.dw, sums);
        close(&name("db"), &grads[2], &back.db, sums);
        close(&name("dx"), &grads[0], &back.dx, Tol { rel: 4e-6, abs: 8e-6 }.or_f16(half));
        let after = if training { cpu::running(before, &x, MOMENTUM) } else { before.map(<[f64]>::to_vec) };
        let found = [running_mean.to_vec(g).expect("mean"), running_var.to_vec(g).expect("var")];
        // the mean is rounded to f32 once
        close(&name("running mean"), &found[0], &after[0], Tol { rel: 2e-7, abs: 1e-6 });
        close(&name("running var"), &found[1], &after[1], Tol { rel: 2e-6, abs: 1e-7 });
    }
}

#[test]
fn batch_norm_matches_cpu() {
    each_tier(|g| {
        let mut random = Random::new(3);
        let shapes = [(2, 1), (3, 5), (60, 7), (8, 64), (401, 33), (70_001, 3), (5, 1031), (8193, 160)];
        let drawn: Vec<(usize, usize)> =
            (0..6).map(|_| (2 + random.below(1, 700)[0] as usize, 1 + random.below(1, 90)[0] as usize)).collect();
        for (rows, c) in some(shapes.into_iter().chain(drawn)) {
            let v = Values::new(rows, c, 0.0);
            v.check(g, true);
            v.check(g, false);
        }
        Values::new(1, 6, 0.0).check(g, false); // a single row, in evaluation
        for (rows, c) in some([(2, 2), (401, 34), (35_001, 6), (8193, 20)]) {
            Values::in_f16(rows, c, 0.0).check(g, true);
            Values::in_f16(rows, c, 0.0).check(g, false);
        }
    });
}

#[test]
fn batch_norm_and_an_activation_match_cpu() {
    each_tier(|g| {
        let shapes = [(2, 1), (60, 7), (401, 33), (8193, 20)];
        for ((rows, c), act) in
            some(shapes.into_iter().flat_map(|shape| {
                [BatchNormAct::Relu, BatchNormAct::Silu, BatchNormAct::GeluTanh].map(|act| (shape, act))
            }))
        {
            let v = Values::new(rows, c, 0.0);
            v.check_act(g, true, act);
            v.check_act(g, false, act);
            Values::in_f16(rows, c.next_multiple_of(2), 0.0).check_act(g, true, act);
        }
    });
}

/// The variance is that of what is left of the mean. E[x²] − μ² would lose every digit here: 4000² = 1.6e7, times 6e-8.
#[test]
fn a_far_mean_costs_no_digits() {
    each_tier(|g| {
        for (rows, c, mean) in [(97, 6, 300.0), (5000, 3, 4000.0)] {
            Values::new(rows, c, mean).check(g, true);
            Values::in_f16(rows, c.next_multiple_of(2), mean).check(g, true); // x is a multiple of 0.25, or of 2
        }
    });
}

/// Running statistics of a segment that is recorded a second time for its gradients move once, and a replay of the
/// program, as for the next micro-batch, moves them again.
#[test]
fn running_statistics_move_once_a_micro_batch() {
    each_tier(|g| {
        let v = Values::new(12, 5, 0.0);
        let step = |checkpointing: bool| -> Result<[Vec<f32>; 3]> {
            let [mean, var] = v.running.each_ref().map(|v| Tensor::from_slice(g, &[5], v).expect("tensor"));
            let [x, w, b] = [(&v.x, &[12, 5][..]), (&v.w, &[5]), (&v.b, &[5])].map(|(v, s)| leaf(g, s, v));
            let mut r = Recorder::new(g).checkpointing(checkpointing);
            let (running, leaves) = ([mean.clone(), var.clone()], [x.clone(), w, b]);
            let [y] = r.segment(move |r| {
                let statistics =
                    BatchStatistics::Batch { running: Some([&running[0], &running[1]]), momentum: MOMENTUM };
                let y = batch_norm(r, &leaves[0], &leaves[1], &leaves[2], BatchNormOptions::new(statistics))?;
                Ok([relu(r, &y)?])
            })?;
            let loss = reduce::sum(&mut r, &y)?;
            let grads = r.backward(&loss, Grads::default())?;
            let dx = grads.get(&x).expect("dx").clone();
            r.run()?;
            Ok([mean.to_vec(g)?, var.to_vec(g)?, dx.to_vec(g)?])
        };
        let (plain, again) = (step(false).expect("plain"), step(true).expect("checkpointed"));
        assert_eq!(plain, again);
        let before = v.running.each_ref().map(|v| wide(v));
        let want = cpu::running([&before[0], &before[1]], &wide(&v.x), MOMENTUM);
        close("mean", &again[0], &want[0], Tol { rel: 2e-7, abs: 1e-6 });
        close("var", &again[1], &want[1], Tol { rel: 2e-6, abs: 1e-7 });
    });
}

#[test]
fn batch_norm_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let of = |shape: &[usize]| leaf(g, shape, &vec![1.0; shape.iter().product()]);
    let fails = |x: &Var, w: &Var, statistics: BatchStatistics<'_>, says: &str| {
        let options = BatchNormOptions::new(statistics);
        let e = batch_norm(&mut Recorder::new(g), x, w, &of(&[3]), options).expect_err(says).to_string();
        assert!(e.contains(says), "{e}");
    };
    let batch = BatchStatistics::Batch { running: None, momentum: MOMENTUM };
    fails(&of(&[2, 3]), &of(&[2]), batch, "batch_norm: w");
    fails(&of(&[1, 1, 3]), &of(&[3]), batch, "batch_norm: rows: got 1, expected at least 2 in training");
    let (good, bad) = (of(&[3]).data, of(&[2]).data);
    fails(&of(&[2, 3]), &of(&[3]), BatchStatistics::Given([&good, &bad]), "batch_norm: running statistics");
    let odd = BatchStatistics::Batch { running: None, momentum: 1.5 };
    fails(&of(&[2, 3]), &of(&[3]), odd, "batch_norm: momentum");
    let half = Var::leaf(Tensor::scratch_of(DType::F16, "x", &[2, 3]));
    fails(&half, &of(&[3]), batch, "batch_norm: channels in f16: got 3, expected an even number");
}

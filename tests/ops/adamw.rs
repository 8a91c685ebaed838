use std::collections::HashMap;

use rowscan::Result;
use rowscan::cpu::adamw::{Config, State, clip_factor, global_norm, step};
use rowscan::gpu::{Caps, Gpu, Program};
use rowscan::ops::adamw;
use rowscan::ops::adamw::{AdamwArrays, AdamwConfig, Factor};
use rowscan::ops::step::StepState;
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;
use safetensors::{Dtype, SafeTensors};

use crate::common::{Random, Tol, at_once, close, each_tier, values, wide};

/// Parameters and moments with one recorded AdamW step. The step is replayed with other gradients and another
/// `StepState`.
struct Arena {
    p: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    state: Tensor,
    program: Program,
    clip: Option<Tensor>,
    hyper: AdamwConfig,
}

impl Arena {
    fn new(
        g: &Gpu, p: &[f32], groups: &[u32], table: &[f32], max_norm: Option<f32>, hyper: AdamwConfig,
    ) -> Result<Self> {
        let n = [p.len()];
        let (p, grad) = (Tensor::from_slice(g, &n, p)?, Tensor::input("grad", &n));
        let (m, v) = (Tensor::input("m", &n), Tensor::input("v", &n));
        at_once(g, |r| {
            m.fill(r, 0.0)?;
            v.fill(r, 0.0)
        });
        let state = StepState::tensor();
        let groups = Tensor::from_indices(g, &[groups.len()], groups)?;
        let table = Tensor::from_slice(g, &[table.len() / 2, 2], table)?;
        let (recording, clip) = Recorder::new(g).record(|r| {
            let clip = max_norm.map(|max| adamw::clip_factor(r, &[&grad], max)).transpose()?;
            let arrays = AdamwArrays { p: &p, grad: &grad, m: &m, v: &v };
            let factor = clip.as_ref().map_or(Factor::One, Factor::Clipped);
            adamw::adamw(r, &state, arrays, &groups, &table, factor, hyper)?;
            Ok(clip)
        })?;
        let program = Program::new(recording)?;
        Ok(Self { p, grad, m, v, state, program, clip, hyper })
    }

    /// Returns p, m and v after step `t`, counted from 1.
    fn step(&self, g: &Gpu, t: u32, lr: f32, grad: &[f32]) -> Result<[Vec<f32>; 3]> {
        StepState::new(t, lr, self.hyper.betas, 0).write(g, &self.state)?;
        self.grad.write(g, grad)?;
        self.program.run()?;
        Ok([self.p.to_vec(g)?, self.m.to_vec(g)?, self.v.to_vec(g)?])
    }
}

/// Compares six steps of n elements. A row of `table` holds the lr scale and the weight decay of a group; each block of
/// 64 elements draws one of four groups. Group 2 has lr scale 0 and group 3 is not in the table: both are frozen.
fn check(g: &Gpu, n: usize, max_norm: Option<f32>, betas: (f64, f64)) {
    eprintln!("n {n}, max_norm {max_norm:?}, betas {betas:?}");
    let mut random = Random::new(n as u64);
    let groups = random.below(n / 64, 4);
    let table = [1.0, 0.05, 0.65, 0.0, 0.0, 0.1f32];
    let start = random.normal(n);
    let hyper = AdamwConfig { betas, eps: 1e-8 };
    let arena = Arena::new(g, &start, &groups, &table, max_norm, hyper).unwrap();
    let scale = |i: usize| table.get(2 * groups[i / 64] as usize).map_or(0.0, |&s| f64::from(s));
    let decay: Vec<f64> =
        (0..n).map(|i| table.get(2 * groups[i / 64] as usize + 1).map_or(0.0, |&d| f64::from(d))).collect();
    let mut want = State { p: wide(&start), m: vec![0.0; n], v: vec![0.0; n] };
    for t in 1..=6 {
        let lr = 0.01 / t as f32;
        let grad = random.normal(n);
        let got = arena.step(g, t, lr, &grad).unwrap();
        let norm = global_norm(&wide(&grad));
        let clip = max_norm.map_or(1.0, |max| clip_factor(norm, max.into()));
        if let Some(found) = &arena.clip {
            // a long f32 sum in another order
            close("clip", &found.to_vec(g).unwrap(), &[clip, norm], Tol { rel: 2e-6, abs: 0.0 });
        }
        let old = want.clone();
        for group in 0..3 {
            // the oracle takes one learning rate: it makes a step per group, and the elements of that group are kept
            let scaled = f64::from(lr) * f64::from(table[2 * group]);
            let new = step(Config { lr: scaled, betas, eps: 1e-8, step: t, clip }, &old, &wide(&grad), &decay);
            for i in (0..n).filter(|&i| groups[i / 64] as usize == group && scale(i) != 0.0) {
                (want.p[i], want.m[i], want.v[i]) = (new.p[i], new.m[i], new.v[i]);
            }
        }
        for i in (0..n).filter(|&i| scale(i) == 0.0) {
            assert_eq!((got[0][i], got[1][i], got[2][i]), (start[i], 0.0, 0.0), "frozen element {i}");
        }
        // p: one rounding per step at a size of up to 3. m and v: a few roundings per step at their own size. Where the
        // gradients in m cancel, the roundings are of the gradients' size, hence `abs`.
        close("p", &got[0], &want.p, Tol { rel: 4e-7, abs: 4e-7 });
        close("m", &got[1], &want.m, Tol { rel: 4e-6, abs: 4e-7 });
        close("v", &got[2], &want.v, Tol { rel: 6e-6, abs: 1e-9 });
    }
}

#[test]
fn adamw_matches_cpu() {
    each_tier(|g| {
        check(g, 64, None, (0.9, 0.999));
        check(g, 7 * 64, Some(1.0), (0.9, 0.95));
        check(g, 1031 * 64, Some(30.0), (0.9, 0.95));
        check(g, 1031 * 64, None, (0.9, 0.999));
        check(g, 13 * 64, Some(1e9), (0.0, 0.5)); // not clipped, no momentum
        let mut random = Random::new(5);
        for n in random.below(8, 40) {
            check(g, (n as usize + 1) * 64, (n % 2 == 0).then_some(n as f32 + 0.5), (0.8, 0.99));
        }
    });
}

#[test]
fn clip_factor_spans_arenas() {
    each_tier(|g| {
        let mut random = Random::new(8);
        for sizes in [vec![64], vec![64, 128], vec![3 * 64, 64 * 1031, 64 * 40_009, 64 * 5]] {
            let grads: Vec<Vec<f32>> = sizes.iter().map(|&n| random.normal(n)).collect();
            let arenas: Vec<Tensor> = grads.iter().map(|v| Tensor::from_slice(g, &[v.len()], v).unwrap()).collect();
            let arenas: Vec<&Tensor> = arenas.iter().collect();
            let norm = global_norm(&wide(&grads.concat()));
            for max in [0.5, 1e6] {
                let got = values(g, |r| adamw::clip_factor(r, &arenas, max));
                // a tree over sums of a few hundred squares: a handful of roundings; the square root halves their
                // relative error
                close("clip", &got, &[clip_factor(norm, max.into()), norm], Tol { rel: 2e-6, abs: 0.0 });
            }
            let again = || values(g, |r| adamw::clip_factor(r, &arenas, f32::INFINITY));
            assert_eq!(again(), again(), "the same bits each time");
            assert_eq!(again()[0], 1.0);
        }
    });
}

/// `Factor::Scaled` is for loss scaling. Gradients times 2¹⁶ make the same step as the gradients themselves. A factor
/// of 0, which marks an overflow, makes no step, as in `GradScaler.step`.
#[test]
fn scaled_steps_take_back_the_scale_or_change_nothing() {
    each_tier(|g| {
        let n = 5 * 64;
        let hyper = AdamwConfig { betas: (0.9, 0.95), eps: 1e-8 };
        let mut random = Random::new(3);
        let (start, grad) = (random.normal(n), random.normal(n));
        let (groups, table) = (vec![0; n / 64], [1.0, 0.05]);
        let plain = Arena::new(g, &start, &groups, &table, None, hyper).unwrap();
        let want = plain.step(g, 1, 0.01, &grad).unwrap();
        let scaled = |clip: [f32; 4]| {
            let arena = Arena::new(g, &start, &groups, &table, None, hyper).unwrap();
            let [p, m, v] = [&arena.p, &arena.m, &arena.v];
            let grad: Vec<f32> = grad.iter().map(|v| v * 65536.0).collect();
            arena.grad.write(g, &grad).unwrap();
            // the bias corrections of step 7 must not be used: `clip` holds those of the scaled step
            StepState::new(7, 0.01, hyper.betas, 0).write(g, &arena.state).unwrap();
            let groups = Tensor::from_indices(g, &[n / 64], &groups).unwrap();
            let table = Tensor::from_slice(g, &[1, 2], &table).unwrap();
            let clip = Tensor::from_slice(g, &[4], &clip).unwrap();
            let arrays = AdamwArrays { p, grad: &arena.grad, m, v };
            at_once(g, |r| adamw::adamw(r, &arena.state, arrays, &groups, &table, Factor::Scaled(&clip), hyper));
            [p, m, v].map(|tensor| tensor.to_vec(g).unwrap())
        };
        // to the bit, because the scale is a power of two
        assert_eq!(scaled([1.0 / 65536.0, 1.0, (1.0 - 0.9f64) as f32, (1.0 - 0.95f64) as f32]), want);
        assert_eq!(scaled([0.0, 0.0, 0.1, 0.05]), [start.clone(), vec![0.0; n], vec![0.0; n]]);
    });
}

/// `guard` leaves the table alone while x is finite, however large. The first value that is not finite sets the lr
/// scale of every group to 0, for good.
#[test]
fn a_guard_freezes_for_good() {
    each_tier(|g| {
        for (n, rows) in [(1, 1), (300, 3), (1031, 700)] {
            let table = Tensor::from_slice(g, &[rows, 2], &[0.5, 0.05].repeat(rows)).unwrap();
            let guard = |at: usize, value: f32| {
                let mut x = vec![-1.5f32; n];
                x[at] = value;
                at_once(g, |r| adamw::guard(r, &Tensor::from_slice(g, &[n], &x)?, &table));
                table.to_vec(g).unwrap()
            };
            for fine in [0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45] {
                assert_eq!(guard(n - 1, fine), [0.5, 0.05].repeat(rows), "{fine}");
            }
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN] {
                table.write(g, &[0.5f32, 0.05].repeat(rows)).unwrap();
                assert_eq!(guard(n / 2, bad), [0.0, 0.05].repeat(rows), "{bad}");
            }
            assert_eq!(guard(0, 1.0), [0.0, 0.05].repeat(rows), "finite values do not bring the lr scale back");
        }
    });
}

#[test]
fn adamw_refuses_other_sizes() {
    let g = Gpu::dry(Caps::portable());
    let r = &mut Recorder::new(&g);
    let make = |n: usize| Tensor::input("array", &[n]);
    let mut attempt = |n: usize, blocks: usize, eps: f32| {
        let [p, grad, m, v] = [n, n, n, n].map(make);
        let arrays = AdamwArrays { p: &p, grad: &grad, m: &m, v: &v };
        let table = Tensor::input("table", &[1, 2]);
        let hyper = AdamwConfig { eps, ..AdamwConfig::default() };
        let groups = Tensor::indices("groups", &[blocks]);
        adamw::adamw(r, &StepState::tensor(), arrays, &groups, &table, Factor::One, hyper)
    };
    assert!(attempt(128, 2, 1e-8).is_ok());
    assert!(attempt(100, 2, 1e-8).unwrap_err().to_string().contains("multiple of 64"));
    assert!(attempt(128, 3, 1e-8).unwrap_err().to_string().contains("groups"));
    assert!(attempt(128, 2, 0.0).unwrap_err().to_string().contains("eps"));
    assert!(adamw::clip_factor(r, &[], 1.0).is_err());
    assert!(adamw::clip_factor(r, &[&make(64)], 0.0).is_err());
}

/// Five steps of torch.optim.AdamW, with and without clip_grad_norm_: w (7, 5) with decay, b (5) without.
#[test]
fn adamw_matches_torch() {
    let fixtures: [(&str, &[u8]); 2] = [
        ("adamw_default", include_bytes!("../fixtures/adamw_default.safetensors")),
        ("adamw_clip", include_bytes!("../fixtures/adamw_clip.safetensors")),
    ];
    for (name, bytes) in fixtures {
        let file = SafeTensors::deserialize(bytes).unwrap();
        let (_, head) = SafeTensors::read_metadata(bytes).unwrap();
        let head: &HashMap<String, String> = head.metadata().as_ref().unwrap();
        let config: serde_json::Value = serde_json::from_str(&head["config"]).unwrap();
        let number = |key: &str| config[key].as_f64().unwrap();
        let betas = (config["betas"][0].as_f64().unwrap(), config["betas"][1].as_f64().unwrap());
        let hyper = AdamwConfig { betas, eps: number("eps") as f32 };
        let max_norm = config["clip_grad_norm"].as_f64().map(|max| max as f32);
        assert_eq!(max_norm.is_some(), name == "adamw_clip");

        let values = |key: String| -> Vec<f64> {
            let tensor = file.tensor(&key).unwrap_or_else(|e| panic!("{key}: {e}"));
            match tensor.dtype() {
                Dtype::F64 => bytemuck::pod_collect_to_vec(tensor.data()),
                Dtype::F32 => wide(&bytemuck::pod_collect_to_vec::<u8, f32>(tensor.data())),
                other => panic!("{key} is {other:?}"),
            }
        };
        // one arena: w at 0, b at 64, zeros between them
        let arena_of = |prefix: &str| -> Vec<f64> {
            let (mut w, b) = (values(format!("{prefix}.w")), values(format!("{prefix}.b")));
            w.resize(64, 0.0);
            w.extend(b);
            w.resize(128, 0.0);
            w
        };
        let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect::<Vec<_>>();
        let table = [1.0, number("weight_decay_w") as f32, 1.0, number("weight_decay_b") as f32];
        each_tier(|g| {
            let arena = Arena::new(g, &narrow(arena_of("param")), &[0, 1], &table, max_norm, hyper).unwrap();
            for t in 0..5 {
                let grad = narrow(arena_of(&format!("input.step{t}.grad")));
                let got = arena.step(g, t + 1, number("lr") as f32, &grad).unwrap();
                for (what, got) in ["param", "exp_avg", "exp_avg_sq"].into_iter().zip(&got) {
                    let want = arena_of(&format!("output.step{t}.{what}"));
                    // parameters of up to 3, moments below that; the zeros between w and b have to stay 0
                    close(&format!("{name} step {t} {what}"), got, &want, Tol { rel: 1e-6, abs: 2e-7 });
                    assert!(got.iter().zip(&want).all(|(g, w)| *w != 0.0 || *g == 0.0), "padding");
                }
            }
        });
    }
}

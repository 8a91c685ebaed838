use rowscan::cpu::loss_scale::{State, judge, scale};
use rowscan::gpu::{Caps, Gpu};
use rowscan::ops::loss_scale;
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, at_once, close, each_tier, values, wide};

fn numbers(state: &State) -> [f64; 5] {
    [state.level, state.good, state.skipped, state.correction1, state.correction2]
}

#[test]
fn a_loss_is_scaled_by_a_power_of_two() {
    each_tier(|g| {
        for level in [0.0, 3.0, 8.0, -1.0, -16.0, -30.0f32] {
            for n in [1, 256, 300] {
                let state = Tensor::from_slice(g, &[5], &[level, 9.0, 9.0, 9.0, 9.0]).unwrap();
                let out = Tensor::scratch("out", &[n]);
                at_once(g, |r| loss_scale::seed(r, &state, 0.3, &out));
                assert_eq!(out.to_vec(g).unwrap(), vec![0.3 * 2f32.powi(16 + level as i32); n], "level {level}");
            }
        }
    });
}

/// Six steps on arenas of several sizes. Three of the steps have a gradient that is infinite or NaN.
#[test]
fn steps_are_judged_as_the_oracle_does() {
    each_tier(|g| {
        for (sizes, max_norm, betas) in [
            (vec![64], f32::INFINITY, (0.9, 0.95)),
            (vec![3 * 64, 64 * 1031], 2.0, (0.9, 0.999)),
            (vec![64 * 40_009], 1e-3, (0.0, 0.5)),
        ] {
            let mut random = Random::new(sizes[0] as u64);
            let drawn: Vec<Vec<f32>> = sizes.iter().map(|&n| random.normal(n)).collect();
            let state = Tensor::from_slice(g, &[5], &[0.0; 5]).unwrap();
            let mut want = State::default();
            for step in 0..6 {
                let factor = (scale(want) * (step + 1) as f64) as f32;
                let mut grads: Vec<Vec<f32>> =
                    drawn.iter().map(|arena| arena.iter().map(|v| v * factor).collect()).collect();
                let bad = [None, Some(f32::INFINITY), None, Some(f32::NAN), Some(-f32::INFINITY), None][step];
                if let (Some(bad), Some(last)) = (bad, grads.last_mut().and_then(|arena| arena.last_mut())) {
                    *last = bad;
                }
                let arenas: Vec<Tensor> = grads.iter().map(|v| Tensor::from_slice(g, &[v.len()], v).unwrap()).collect();
                let arenas: Vec<&Tensor> = arenas.iter().collect();
                let clip = values(g, |r| loss_scale::judge(r, &state, &arenas, betas, max_norm));
                let square_sum = wide(&grads.concat()).iter().map(|v| v * v).sum();
                let (new, factor, norm) = judge(want, square_sum, betas, f64::from(max_norm).min(1e30));
                // clip: a tree over sums of a few hundred squares, whose relative error the square root halves; the
                // bias corrections add a rounding per step
                let tol = Tol { rel: 2e-6, abs: 0.0 };
                close("clip", &clip, &[factor, norm, new.correction1, new.correction2], tol);
                close("state", &state.to_vec(g).unwrap(), &numbers(&new), tol);
                assert_eq!(clip[0] == 0.0, bad.is_some());
                want = new;
            }
            assert_eq!((want.skipped, want.level), (3.0, -3.0));
        }
    });
}

#[test]
fn the_scale_doubles_after_two_thousand_steps_and_stops_at_its_bounds() {
    each_tier(|g| {
        let after = |state: [f32; 5], grad: f32| {
            let state = Tensor::from_slice(g, &[5], &state).unwrap();
            let grads = Tensor::from_slice(g, &[64], &[grad; 64]).unwrap();
            at_once(g, |r| loss_scale::judge(r, &state, &[&grads], (0.5, 0.5), 1.0));
            let after = state.to_vec(g).unwrap();
            [after[0], after[1], after[2]]
        };
        assert_eq!(after([0.0, 1998.0, 2.0, 0.5, 0.5], 1.0), [0.0, 1999.0, 2.0]);
        assert_eq!(after([0.0, 1999.0, 2.0, 0.5, 0.5], 1.0), [1.0, 0.0, 2.0]);
        assert_eq!(after([8.0, 1999.0, 2.0, 0.5, 0.5], 1.0), [8.0, 0.0, 2.0]);
        assert_eq!(after([-30.0, 7.0, 2.0, 0.5, 0.5], f32::NAN), [-30.0, 0.0, 3.0]);
    });
}

#[test]
fn loss_scale_refuses_other_sizes() {
    let g = Gpu::dry(Caps::portable());
    let r = &mut Recorder::new(&g);
    let tensor = |n: usize| Tensor::input("t", &[n]);
    assert!(loss_scale::seed(r, &tensor(4), 1.0, &tensor(1)).unwrap_err().to_string().contains("state"));
    let mut judge = |state: usize, grads: usize, max: f32| {
        loss_scale::judge(r, &tensor(state), &[&tensor(grads)], (0.9, 0.95), max).map(|_| ())
    };
    assert!(judge(5, 64, 1.0).is_ok());
    assert!(judge(4, 64, 1.0).is_err() && judge(5, 63, 1.0).is_err() && judge(5, 64, 0.0).is_err());
}

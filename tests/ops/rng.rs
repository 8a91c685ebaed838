use rowscan::Result;
use rowscan::cpu::rng as oracle;
use rowscan::gpu::Gpu;
use rowscan::ops::rng;
use rowscan::ops::step::StepState;
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, at_once, close, each_tier, values};

const SEED: u64 = 0x9abc_def0_1234_5678;

fn state(g: &Gpu, step: u32, seed: u64) -> Tensor {
    let tensor = StepState::tensor();
    StepState::new(step, 1.0, (0.9, 0.95), seed).write(g, &tensor).unwrap();
    tensor
}

/// The u32 values of the tensor that `body` records.
fn integers(g: &Gpu, body: impl FnOnce(&mut Recorder) -> Result<Tensor>) -> Vec<u32> {
    let bytes = at_once(g, body).read(g).and_then(|bytes| bytes.wait()).unwrap_or_else(|e| panic!("{e}"));
    bytemuck::pod_collect_to_vec::<u8, u32>(&bytes)
}

fn words(n: usize, stream: u32, step: u32, seed: u64) -> Vec<u32> {
    let block = |i| oracle::philox([i, stream, step, 0], [seed as u32, (seed >> 32) as u32]);
    (0..n.div_ceil(4) as u32).flat_map(block).take(n).collect()
}

#[test]
fn words_and_uniforms_are_exact() {
    each_tier(|g| {
        let mut random = Random::new(3);
        for n in [1, 2, 3, 5, 1023, 1024, 1031, 70_001] {
            let draw = random.below(4, u32::MAX);
            let (stream, step, seed) = (draw[0], draw[1], u64::from(draw[2]) << 32 | u64::from(draw[3]));
            let state = state(g, step, seed);
            let want = words(n, stream, step, seed);
            assert_eq!(integers(g, |r| rng::words(r, &state, stream, &[n])), want, "{n} words");
            for bound in [1, 1000, u32::MAX] {
                let got = integers(g, |r| rng::below(r, &state, stream, bound, &[n]));
                let want: Vec<u32> = want.iter().map(|&w| oracle::below(w, bound)).collect();
                assert_eq!(got, want, "{n} below {bound}");
            }
            let got = values(g, |r| rng::uniform(r, &state, stream, &[n]));
            let want: Vec<f64> = want.iter().map(|&w| oracle::uniform(w)).collect();
            close("uniform", &got, &want, Tol::EXACT);
        }
    });
}

/// `StepState::part`, the number of the micro-batch, enters the counter: micro-batches of a step draw different
/// numbers.
#[test]
fn parts_of_a_step_differ() {
    each_tier(|g| {
        let state = StepState::tensor();
        StepState { part: 3, ..StepState::new(9, 1.0, (0.9, 0.95), SEED) }.write(g, &state).unwrap();
        let got = integers(g, |r| rng::words(r, &state, 2, &[4]));
        let want = oracle::philox([0, 2, 9, 3], [SEED as u32, (SEED >> 32) as u32]);
        assert_eq!(got, want);
    });
}

#[test]
fn normals_match_cpu() {
    each_tier(|g| {
        for n in [1, 7, 10_007] {
            let got = values(g, |r| rng::normal(r, &state(g, 5, SEED), 2, &[n]));
            let want = words(n.next_multiple_of(4), 2, 5, SEED);
            let mut want: Vec<f64> = want.chunks_exact(2).flat_map(|w| oracle::normal([w[0], w[1]])).collect();
            want.truncate(n);
            // WGSL allows sin and cos an error of 2⁻¹¹; Box-Muller multiplies it by a radius of up to 5.8
            close("normal", &got, &want, Tol { rel: 0.0, abs: 3e-3 });
        }
    });
}

#[test]
fn keep_matches_cpu() {
    each_tier(|g| {
        let p = [0.0f32, 0.1, 0.5, 0.9, 1.0];
        let drop = Tensor::from_slice(g, &[5], &p).unwrap();
        for (cols, ld) in [(1, 64), (13, 64), (64, 64), (65, 128), (1031, 1088)] {
            // a layer binds one row of the table as a tensor
            let row = Tensor::scratch("row", &[cols]);
            let out = at_once(g, |r| {
                let out = rng::drop_path(r, &state(g, 9, SEED), 4, &drop, 5, cols, ld)?;
                row.copy_from(r, &out.range(2 * ld, &[cols])?)?;
                Ok(out)
            });
            let got = out.to_vec(g).unwrap();
            assert_eq!(row.to_vec(g).unwrap(), got[2 * ld..2 * ld + cols]);
            assert!(got[..cols].iter().all(|&k| k == 1.0), "p = 0 is exactly 1");
            let draw = words(5 * ld, 4, 9, SEED);
            let factor = |(i, &w): (usize, &u32)| match f64::from(p[i / ld]) {
                p if p < 1.0 && i % ld < cols => oracle::drop_path(w, p),
                _ => 0.0,
            };
            let want: Vec<f64> = draw.iter().enumerate().map(factor).collect();
            // 1 − p is rounded, then the division
            close("keep", &got, &want, Tol { rel: 1e-6, abs: 0.0 });
        }
    });
}

/// The mean of n factors is 1 within four standard errors, and the next step draws others.
#[test]
fn keep_has_mean_one_and_changes_with_the_step() {
    each_tier(|g| {
        let n = 1 << 16;
        let drop = Tensor::from_slice(g, &[1], &[0.3]).unwrap();
        let draw = |step| values(g, |r| rng::drop_path(r, &state(g, step, SEED), 0, &drop, 1, n, n));
        let (one, two) = (draw(1), draw(2));
        for kept in [&one, &two] {
            let mean = kept.iter().map(|&k| f64::from(k)).sum::<f64>() / n as f64;
            assert!((mean - 1.0).abs() < 4.0 * (0.3 / 0.7 / n as f64).sqrt(), "mean {mean}");
        }
        let same = one.iter().zip(&two).filter(|(a, b)| a == b).count() as f64 / n as f64;
        assert!((same - 0.58).abs() < 0.01, "{same} of the draws agree, expected 0.7² + 0.3²");
    });
}

#[test]
fn keep_refuses_rows_that_cannot_be_bound() {
    let g = Gpu::dry(rowscan::gpu::Caps::portable());
    let r = &mut Recorder::new(&g);
    let (state, p) = (StepState::tensor(), Tensor::input("p", &[3]));
    for (rows, cols, ld) in [(3, 5, 32), (3, 65, 64), (4, 5, 64)] {
        assert!(rng::drop_path(r, &state, 0, &p, rows, cols, ld).is_err(), "{rows} {cols} {ld}");
    }
    assert!(rng::uniform(r, &p, 0, &[4]).is_err());
}

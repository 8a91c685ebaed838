use rowscan::cpu::mse_norm::{Dims, backward, forward, target};
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;
use rowscan::{Error, ops};

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, run, values, wide};
use rowscan::ops::mse_norm::{MseNormOptions, mse_norm};

/// Cases: (B, L, pixels, channels, normalize).
fn cases() -> Vec<(usize, usize, usize, usize, Option<f32>)> {
    let mut cases = vec![
        (1, 1, 1, 1, None),
        (1, 1, 1, 2, Some(1e-6)),
        (2, 7, 256, 3, Some(1e-6)),
        (1, 3, 1031, 1, Some(1e-2)),
        (7, 4691, 1, 3, Some(1e-6)), // 32 837 rows: more than a grid row holds
        (2, 5, 256, 3, None),
    ];
    let mut random = Random::new(7);
    for _ in 0..10 {
        let n = random.below(5, 1 << 16).iter().map(|n| *n as usize).collect::<Vec<_>>();
        cases.push((
            1 + n[0] % 4,
            1 + n[1] % 50,
            2 + n[2] % 300,
            1 + n[3] % 4,
            [None, Some(1e-6), Some(1e-3)][n[4] % 3],
        ));
    }
    cases
}

#[test]
fn mse_norm_matches_cpu() {
    each_tier(|g| {
        for (b, l, pixels, channels, normalize) in cases() {
            let (rows, cols) = (b * l, pixels * channels);
            let mut random = Random::new((rows * cols) as u64);
            let pred = random.normal(rows * cols);
            // Offsets of 1, −1 and 3 keep the deviation of a patch from being tiny: 1/σ would magnify the rounding of
            // the mean.
            let spread = |(i, v): (usize, f32)| v + [1.0, -1.0, 3.0][i % cols % 3];
            let mut tgt: Vec<f32> = random.uniform(rows * cols, 0.0, 1.0).into_iter().enumerate().map(spread).collect();
            // a constant patch: its target is 0, not the rounding error of its mean times 1/√1e-6 = 1000
            tgt[..cols].fill(100.1);
            let mut mask: Vec<f32> = (0..rows).map(|row| [1.0, 0.0, 0.5, 1.0, 0.0][row % 5]).collect();
            mask[rows - 1] = 1.0;
            // NaN where the mask is 0: such targets must not be read
            let mut unread = tgt.clone();
            (0..rows * cols).filter(|i| mask[i / cols] == 0.0).for_each(|i| unread[i] = f32::NAN);
            let dloss = random.normal(rows);
            let scale = 1.0 / mask.iter().sum::<f32>();
            let (x, tgt_on, mask_on) = (
                leaf(g, &[b, l, cols], &pred),
                Tensor::from_slice(g, &[rows, cols], &unread).expect("tgt"),
                Tensor::from_slice(g, &[b, l], &mask).expect("mask"),
            );
            let (loss, grads) = run(g, &[x], &dloss, |r, v| {
                mse_norm(r, &v[0], &tgt_on, &mask_on, MseNormOptions { channels, scale, normalize })
            });
            let dim = Dims { rows, cols, channels };
            let all = Tensor::from_slice(g, &[rows, cols], &tgt).expect("tgt");
            let found = values(g, |r| ops::mse_norm::target(r, &all, channels, normalize));
            let (pred, tgt, mask, scale) = (wide(&pred), wide(&tgt), wide(&mask), f64::from(scale));
            let normalize = normalize.map(f64::from);
            let want = forward(dim, &pred, &tgt, &mask, scale, normalize).rows;
            // the oracle takes one dloss for all rows: it gets 1, and the rows of its result are scaled
            let mut dpred = backward(dim, &pred, &tgt, &mask, scale, normalize, 1.0);
            dpred.iter_mut().enumerate().for_each(|(i, d)| *d *= f64::from(dloss[i / cols]));
            let name = |what| format!("{what} ({b}, {l}, {pixels}·{channels})");
            // target: a few roundings of numbers up to 5, or up to 103 without normalization
            close(&name("target"), &found, &target(dim, &tgt, normalize), Tol { rel: 4e-6, abs: 4e-6 });
            // loss: the same roundings in pred − target; relative to the mean square, 2e-6, times scale
            close(&name("loss"), &loss, &want, Tol { rel: 8e-6, abs: 2e-6 * scale });
            // dpred: the same roundings, times 2·scale/cols and dloss < 3
            let abs = 6.0 * scale / cols as f64 * 4e-6;
            close(&name("dpred"), &grads[0], &dpred, Tol { rel: 4e-6, abs });
        }
    });
}

#[test]
fn mse_norm_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let pred = leaf(g, &[1, 2, 6], &[0.0; 12]);
    let (tgt, mask) = (Tensor::input("tgt", &[2, 6]), Tensor::input("mask", &[1, 2]));
    let r = &mut Recorder::new(g);
    let of = |channels| MseNormOptions { channels, ..MseNormOptions::default() };
    for (what, result) in [
        ("mse_norm: tgt", mse_norm(r, &pred, &mask, &mask, of(3))),
        ("mse_norm: mask", mse_norm(r, &pred, &tgt, &tgt, of(3))),
        ("mse_norm: channels", mse_norm(r, &pred, &tgt, &mask, of(4))),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::Argument { what: found, .. } if found == what), "{error}");
    }
}

//! Properties that hold to the bit or for any values: repeatability, causality, no overflow.

use rowscan::gpu::Precision;
use rowscan::ops::attention::AttentionMask;

use super::{Problem, each_path, rows, tokens};
use crate::common::{Random, Tol};

#[test]
fn attention_repeats_bit_for_bit() {
    each_path(|g, precision| {
        // 12: an invocation for each row; 64: two forward and four backward
        for dh in [12, 64] {
            let problem = Problem::new(3, [2, 100, 100, 3, dh], AttentionMask::RegionCausal, rows(100, 9));
            let mut problem = problem.in_precision(precision);
            for f16 in [false, true] {
                problem.f16 = f16;
                assert_eq!(problem.run_self(g), problem.run_self(g), "heads of {dh}");
            }
        }
    });
}

/// Causality of MAP's decoder, to the bit: a change of later rows changes no earlier result, and a loss on earlier rows
/// has no gradient in later ones.
#[test]
fn attention_is_causal_bit_for_bit() {
    let (h, w, r) = (14, 14, 5);
    let kept = (r + 1) * w * 16; // elements of rows 0..=r: 16 channels
    each_path(|g, precision| {
        for (regions, f16) in [(rows(h * w, w), false), (tokens(h * w), false), (rows(h * w, w), true)] {
            let a = Problem::new(5, [1, h * w, h * w, 1, 16], AttentionMask::RegionCausal, regions);
            let mut a = Problem { f16, precision, ..a };
            a.dout[kept..].fill(0.0);
            let (out, grad) = a.run_self(g);
            assert!(grad[3 * kept..].iter().all(|&d| d == 0.0), "gradient of later rows");
            let reached = grad[..3 * kept].iter().filter(|&&d| d != 0.0).count();
            assert!(reached > 29 * kept / 10, "gradient of earlier rows"); // dq and dk of a query with one key are 0
            let noise = Random::new(6).uniform(h * w * 16, -30.0, 30.0);
            for part in &mut a.parts {
                part[kept..].copy_from_slice(&noise[kept..]);
            }
            let (changed, moved) = a.run_self(g);
            assert_eq!(out[..kept], changed[..kept], "rows <= {r}");
            assert_eq!(grad[..3 * kept], moved[..3 * kept], "gradients of rows <= {r}");
            assert_ne!(out[kept..], changed[kept..], "rows > {r} see the change");
        }
    });
}

#[test]
fn attention_stays_finite_at_large_logits() {
    each_path(|g, precision| {
        for (size, check) in [(9.0, true), (60.0, false)] {
            let a = Problem::new(7, [1, 65, 65, 1, 16], AttentionMask::RegionCausal, rows(65, 13));
            let mut a = a.in_precision(precision);
            for part in &mut a.parts[..2] {
                part.iter_mut().for_each(|x| *x *= size);
            }
            let [q, k, _] = &a.parts;
            let x: f32 = (0..65 * 65)
                .map(|n| q[n / 65 * 16..][..16].iter().zip(&k[n % 65 * 16..]).map(|(q, k)| q * k / 4.0).sum::<f32>())
                .fold(0.0, |m, x| x.abs().max(m));
            assert!(x > 80.0, "logits of {x} test nothing");
            if check && precision == Precision::F32 {
                // f32 rounds a logit of 300 by 3e-5, so a weight has that relative error; dq and dk carry the factor 9
                a.check(g, Tol { rel: 1e-4, abs: 2e-4 });
            } else {
                let (out, grad) = a.run_self(g);
                assert!(out.iter().chain(&grad).all(|x| x.is_finite()), "logits of {x}");
                assert!(out.iter().all(|x| x.abs() < 3.01), "an average of values leaves their range");
            }
        }
    });
}

use rowscan::cpu::max_concat::{backward, forward};
use rowscan::gpu::Gpu;
use rowscan::ops::max_concat::max_concat;
use rowscan::tape::Recorder;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, run, some, wide};

/// `levels`: x has this many different numbers, so that there are ties; 0 for no ties.
fn check(g: &Gpu, [sets, k, c]: [usize; 3], levels: u32) {
    let mut random = Random::new((sets * 7 + k * 31 + c) as u64);
    let n = sets * k * c;
    let x: Vec<f32> = match levels {
        0 => random.normal(n),
        _ => random.below(n, levels).into_iter().map(|v| v as f32 - 2.0).collect(),
    };
    let dy = random.normal(2 * n);
    let (y, grads) = run(g, &[leaf(g, &[sets, k, c], &x)], &dy, |r, v| max_concat(r, &v[0]));
    let (x, dy) = (wide(&x), wide(&dy));
    let at = format!("{:?}, {levels} levels", [sets, k, c]);
    close(&format!("{at} y"), &y, &forward(k, c, &x), Tol::EXACT);
    // a sum of K + 1 gradients of up to 4
    close(&format!("{at} dx"), &grads[0], &backward(k, c, &x, &dy), Tol { rel: 2e-7, abs: 1e-7 * (10.0 + k as f64) });
}

#[test]
fn max_concat_matches_cpu() {
    each_tier(|g| {
        for levels in [0, 3] {
            check(g, [1, 1, 1], levels);
            check(g, [5, 32, 8], levels); // four channels at a time
            check(g, [3, 255, 67], levels);
            check(g, [40_001, 2, 3], levels);
        }
        let mut random = Random::new(8);
        let mut drawn = || [9, 60, 90].map(|below| 1 + random.below(1, below)[0] as usize);
        let drawn: Vec<_> = (0..8).map(|_| drawn()).collect();
        some(drawn).for_each(|shape| check(g, shape, 0));
    });
}

#[test]
fn max_concat_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let x = leaf(g, &[1, 256, 1], &[0.0; 256]);
    let e = max_concat(&mut Recorder::new(g), &x).expect_err("256 points").to_string();
    assert!(e.contains("max_concat: x: got [1, 256, 1]"), "{e}");
}

use rowscan::cpu::chamfer::{Dims, Form, backward, forward};
use rowscan::gpu::Gpu;
use rowscan::ops::chamfer::{ChamferForm, chamfer};
use rowscan::tape::Recorder;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, run, some, wide};

/// `levels`: coordinates have this many different numbers, so that points are equally near; 0 for no ties.
fn check(g: &Gpu, form: Form, dim: Dims, levels: u32) {
    let Dims { p, n, m } = dim;
    let mut random = Random::new((p * 7 + n * 31 + m) as u64);
    let mut points = |count: usize| match levels {
        0 => random.normal(count * 3),
        _ => random.below(count * 3, levels).into_iter().map(|v| v as f32).collect(),
    };
    let (a, b) = (points(p * n), points(p * m));
    let d = Random::new(3).normal(p * (n + m));
    let leaves = [leaf(g, &[p, n, 3], &a), leaf(g, &[p, m, 3], &b)];
    let ours = if form == Form::L1 { ChamferForm::L1 } else { ChamferForm::L2 };
    let (shares, grads) = run(g, &leaves, &d, |r, v| chamfer(r, &v[0], &v[1], ours));
    let (a, b, d) = (wide(&a), wide(&b), wide(&d));
    let (da, db) = backward(dim, form, &a, &b, &d);
    let at = format!("{dim:?} {form:?}, {levels} levels");
    // three products and a root; a gradient sums those of all points whose nearest one it is, of either sign
    let want = forward(dim, form, &a, &b).0;
    close(&format!("{at} shares"), &shares, &want, Tol::of(&want, 2e-6));
    close(&format!("{at} da"), &grads[0], &da, Tol::of(&da, 4e-6));
    close(&format!("{at} db"), &grads[1], &db, Tol::of(&db, 4e-6));
}

#[test]
fn chamfer_matches_cpu() {
    each_tier(|g| {
        for form in [Form::L1, Form::L2] {
            for levels in [0, 2] {
                check(g, form, Dims { p: 1, n: 1, m: 1 }, levels);
                check(g, form, Dims { p: 5, n: 32, m: 32 }, levels);
                check(g, form, Dims { p: 3, n: 65, m: 7 }, levels);
                check(g, form, Dims { p: 20_000, n: 1, m: 2 }, levels); // more points than 32768
            }
            let mut random = Random::new(5);
            let mut drawn = || [9, 90, 90].map(|below| 1 + random.below(1, below)[0] as usize);
            let drawn: Vec<_> = (0..6).map(|_| drawn()).collect();
            some(drawn).for_each(|[p, n, m]| check(g, form, Dims { p, n, m }, 0));
        }
    });
}

#[test]
fn chamfer_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let of = |shape: &[usize]| leaf(g, shape, &vec![0.0; shape.iter().product()]);
    for (a, b, what) in [
        (of(&[1, 2, 2]), of(&[1, 2, 2]), "chamfer: a: got [1, 2, 2]"),
        (of(&[1, 2, 3]), of(&[2, 2, 3]), "chamfer: b"),
        (of(&[1, 1, 3]), of(&[1, 40_000, 3]), "1 to 32768 points"),
    ] {
        let e = chamfer(&mut Recorder::new(g), &a, &b, ChamferForm::L1).expect_err(what).to_string();
        assert!(e.contains(what), "{e}");
    }
}

use rowscan::cpu::swiglu::{backward, forward};
use rowscan::ops::swiglu::swiglu;
use rowscan::tape::Recorder;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, run, some, wide};

#[test]
fn swiglu_matches_cpu() {
    each_tier(|g| {
        let mut random = Random::new(3);
        let shapes = [(1, 1), (7, 5), (3, 53), (2, 257), (70_001, 2), (1, 40_000)];
        let drawn: Vec<_> =
            (0..4).map(|_| random.below(2, 90)).map(|d| (1 + d[0] as usize, 1 + d[1] as usize)).collect();
        for (rows, h) in some(shapes.into_iter().chain(drawn)) {
            let mut x = random.normal(rows * 2 * h);
            x[0] = -100.0; // where exp(-a) would overflow
            let dy = random.normal(rows * h);
            let (y, grads) = run(g, &[leaf(g, &[rows, 2 * h], &x)], &dy, |r, v| swiglu(r, &v[0]));
            // a sigmoid, off by 4 ulp, and three roundings of numbers up to 30
            let tol = Tol { rel: 1e-6, abs: 2e-6 };
            close(&format!("({rows}, {h}) y"), &y, &forward(h, &wide(&x)), tol);
            close(&format!("({rows}, {h}) dx"), &grads[0], &backward(h, &wide(&x), &wide(&dy)), tol);
        }
    });
}

#[test]
fn swiglu_takes_an_even_number_of_channels() {
    let Some(g) = gpu() else { return };
    let e = swiglu(&mut Recorder::new(g), &leaf(g, &[2, 3], &[0.0; 6])).expect_err("3 channels").to_string();
    assert!(e.contains("swiglu: x: got [2, 3], expected (.., 2H)"), "{e}");
}

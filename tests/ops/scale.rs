use rowscan::cpu::scale as cpu;
use rowscan::ops::scale::scale;

use crate::common::{Random, Tol, close, each_tier, leaf, run, wide};

#[test]
fn scale_matches_cpu() {
    each_tier(|g| {
        for n in [1, 7, 257, 8_400_000] {
            let mut random = Random::new(n as u64);
            let (a, dy) = (random.uniform(n, -1.0, 1.0), random.uniform(n, -1.0, 1.0));
            let c = -0.7f32;
            let (y, grads) = run(g, &[leaf(g, &[n], &a)], &dy, |r, v| scale(r, &v[0], c));
            let tol = Tol { rel: 6e-8, abs: 0.0 }; // one rounding
            close("y", &y, &cpu::forward(&wide(&a), f64::from(c)), tol);
            close("da", &grads[0], &cpu::backward(f64::from(c), &wide(&dy)), tol);
        }
    });
}

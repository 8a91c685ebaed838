use rowscan::cpu::upsample as cpu;
use rowscan::gpu::Gpu;
use rowscan::ops::upsample::nearest;
use rowscan::tape::Recorder;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, run, some, wide};

fn check(g: &Gpu, size: [usize; 4]) {
    let n = size.iter().product::<usize>();
    let mut random = Random::new(n as u64);
    let (x, dy) = (random.normal(n), random.normal(4 * n));
    let (y, grads) = run(g, &[leaf(g, &size, &x)], &dy, |r, v| nearest(r, &v[0]));
    close(&format!("{size:?} y"), &y, &cpu::nearest(size, &wide(&x)), Tol::EXACT);
    // three additions of numbers below 5
    let tol = Tol { rel: 0.0, abs: 3e-6 };
    close(&format!("{size:?} dx"), &grads[0], &cpu::nearest_backward(size, &wide(&dy)), tol);
}

#[test]
fn upsample_matches_cpu() {
    each_tier(|g| {
        let shapes = [[1, 1, 1, 1], [2, 3, 5, 4], [3, 7, 7, 192], [1, 1, 300, 3], [4, 65, 1, 1]];
        let mut random = Random::new(4);
        let mut drawn = || [4, 9, 9, 40].map(|below| 1 + random.below(1, below)[0] as usize);
        let drawn: Vec<_> = (0..5).map(|_| drawn()).collect();
        some(shapes.into_iter().chain(drawn)).for_each(|size| check(g, size));
    });
}

#[test]
fn upsample_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let x = leaf(g, &[1, 3, 2], &[0.0; 6]);
    let e = nearest(&mut Recorder::new(g), &x).expect_err("no map").to_string();
    assert!(e.contains("upsample: x"), "{e}");
}

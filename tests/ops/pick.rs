use rowscan::cpu::pick::{backward, forward};
use rowscan::gpu::Gpu;
use rowscan::ops::pick::pick;
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, run, some, wide};

fn check(g: &Gpu, [rows, points, k]: [usize; 3]) {
    let mut random = Random::new((rows * 31 + points * 7 + k) as u64);
    let (x, dy) = (random.normal(rows * points * k), random.normal(rows * points));
    let index = random.below(rows, k as u32 + 2); // some are past the channels
    let on = Tensor::from_indices(g, &[rows], &index).unwrap_or_else(|e| panic!("{e}"));
    let (y, grads) = run(g, &[leaf(g, &[rows, points, k], &x)], &dy, |r, v| pick(r, &v[0], &on));
    close("y", &y, &forward(points, k, &wide(&x), &index), Tol::EXACT);
    close("dx", &grads[0], &backward(points, k, &index, &wide(&dy)), Tol::EXACT);
}

#[test]
fn pick_matches_cpu() {
    each_tier(|g| {
        let shapes = [[1, 1, 1], [5, 7, 3], [128, 784, 4], [2, 1, 80], [33_000, 1, 2]];
        let mut random = Random::new(4);
        let mut drawn = || [9, 300, 90].map(|below| 1 + random.below(1, below)[0] as usize);
        let drawn: Vec<_> = (0..5).map(|_| drawn()).collect();
        some(shapes.into_iter().chain(drawn)).for_each(|size| check(g, size));
    });
}

#[test]
fn pick_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let of = |shape: &[usize], n: usize| {
        let x = leaf(g, shape, &vec![0.0; shape.iter().product()]);
        pick(&mut Recorder::new(g), &x, &Tensor::input("index", &[n])).expect_err("sizes").to_string()
    };
    assert!(of(&[3], 3).contains("pick: x"));
    assert!(of(&[3, 2], 2).contains("pick: index"));
}

use rowscan::cpu::dropout::scale;
use rowscan::gpu::Gpu;
use rowscan::ops::dropout::dropout;
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, run, some, wide};

fn check(g: &Gpu, [b, l, c]: [usize; 3]) {
    let mut random = Random::new((b * 7 + l * 31 + c) as u64);
    let (x, dy) = (random.normal(b * l * c), random.normal(b * l * c));
    let factors: Vec<f32> = random.below(b * c, 2).into_iter().map(|kept| kept as f32 * 1.25).collect();
    let given = Tensor::from_slice(g, &[b, c], &factors).unwrap_or_else(|e| panic!("{e}"));
    let (y, grads) = run(g, &[leaf(g, &[b, l, c], &x)], &dy, |r, v| dropout(r, &v[0], &given));
    let (x, dy, factors) = (wide(&x), wide(&dy), wide(&factors));
    let (at, tol) = (format!("({b}, {l}, {c})"), Tol { rel: 1e-7, abs: 0.0 }); // one product
    close(&format!("{at} y"), &y, &scale(l, c, &x, &factors), tol);
    close(&format!("{at} dx"), &grads[0], &scale(l, c, &dy, &factors), tol);
}

#[test]
fn dropout_matches_cpu() {
    each_tier(|g| {
        let shapes = [[1, 1, 1], [2, 5, 3], [3, 64, 65], [40_001, 1, 2], [1, 70_001, 3]];
        let mut random = Random::new(4);
        let mut drawn = || [6, 300, 90].map(|below| 1 + random.below(1, below)[0] as usize);
        let drawn: Vec<_> = (0..4).map(|_| drawn()).collect();
        some(shapes.into_iter().chain(drawn)).for_each(|shape| check(g, shape));
    });
}

#[test]
fn dropout_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let factors = Tensor::from_slice(g, &[2, 2], &[1.0; 4]).unwrap_or_else(|e| panic!("{e}"));
    let e = dropout(&mut Recorder::new(g), &leaf(g, &[2, 3], &[0.0; 6]), &factors).expect_err("3 features");
    assert!(e.to_string().contains("dropout: x: got [2, 3], expected (2, .., 2)"), "{e}");
}

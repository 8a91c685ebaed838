use rowscan::cpu::layer_scale::{backward, forward};
use rowscan::gpu::Gpu;
use rowscan::ops::layer_scale::layer_scale;
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, run, some, wide};

fn check(g: &Gpu, b: usize, l: usize, c: usize, drops: bool) {
    let mut random = Random::new((b * 7 + l * 31 + c) as u64);
    let (x, h, dy) = (random.normal(b * l * c), random.normal(b * l * c), random.normal(b * l * c));
    let gamma = random.normal(c);
    let kept: Vec<f32> = (0..b).map(|b| [1.25, 0.0, 2.0][b % 3]).collect();
    let table = Tensor::from_slice(g, &[b], &kept).expect("tensor");
    let leaves = [leaf(g, &[b, l, c], &x), leaf(g, &[b, l, c], &h), leaf(g, &[c], &gamma)];
    let (y, grads) = run(g, &leaves, &dy, |r, v| layer_scale(r, &v[0], &v[1], &v[2], drops.then_some(&table)));
    let (x, h, gamma, kept, dy) = (wide(&x), wide(&h), wide(&gamma), wide(&kept), wide(&dy));
    let drop_path = drops.then_some(&kept[..]);
    let (dh, dgamma) = backward(l, &h, &gamma, drop_path, &dy);
    let at = format!("({b}, {l}, {c}), DropPath {drops}");
    // three roundings of numbers up to 20
    let tol = Tol { rel: 4e-7, abs: 2e-6 };
    close(&format!("{at} y"), &y, &forward(l, &x, &h, &gamma, drop_path), tol);
    close(&format!("{at} dx"), &grads[0], &dy, Tol::EXACT);
    close(&format!("{at} dh"), &grads[1], &dh, tol);
    // a sum over rows of terms of random sign
    close(&format!("{at} dgamma"), &grads[2], &dgamma, Tol { rel: 4e-6, abs: 2e-7 * (10.0 + (b * l) as f64) });
}

#[test]
fn layer_scale_matches_cpu() {
    each_tier(|g| {
        let shapes = [(1, 1, 1), (2, 5, 3), (3, 64, 65), (5, 49, 12), (1, 70_001, 3), (2, 3, 1031)];
        let mut random = Random::new(4);
        let mut drawn = || [6, 300, 90].map(|below| 1 + random.below(1, below)[0] as usize);
        let drawn: Vec<_> = (0..5).map(|_| drawn()).map(|[b, l, c]| (b, l, c)).collect();
        for (b, l, c) in some(shapes.into_iter().chain(drawn)) {
            check(g, b, l, c, false);
            check(g, b, l, c, true);
        }
    });
}

#[test]
fn layer_scale_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let (x, gamma) = (leaf(g, &[2, 3], &[0.0; 6]), leaf(g, &[3], &[0.0; 3]));
    let r = &mut Recorder::new(g);
    let e = layer_scale(r, &x, &gamma, &gamma, None).expect_err("h (C)").to_string();
    assert!(e.contains("layer_scale: h"), "{e}");
    let e = layer_scale(r, &x, &x, &x, None).expect_err("gamma (2, 3)").to_string();
    assert!(e.contains("layer_scale: gamma"), "{e}");
    let e = layer_scale(r, &x, &x, &gamma, Some(&gamma.data)).expect_err("three factors").to_string();
    assert!(e.contains("layer_scale: drop_path: got 3"), "{e}");
}

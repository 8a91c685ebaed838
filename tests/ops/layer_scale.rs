use rowscan::cpu::layer_scale::{backward, forward};
use rowscan::gpu::{DType, Gpu};
use rowscan::ops::layer_scale::layer_scale;
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, round_to_f16, run, some, stored_as, wide};

/// `halves`: whether x and h are stored as f16.
fn check(g: &Gpu, [b, l, c]: [usize; 3], drops: bool, halves: [bool; 2]) {
    let mut random = Random::new((b * 7 + l * 31 + c) as u64);
    let (mut x, mut h, dy) = (random.normal(b * l * c), random.normal(b * l * c), random.normal(b * l * c));
    for (v, _) in [&mut x, &mut h].into_iter().zip(halves).filter(|(_, half)| *half) {
        round_to_f16(v);
    }
    let gamma = random.normal(c);
    let kept: Vec<f32> = (0..b).map(|b| [1.25, 0.0, 2.0][b % 3]).collect();
    let table = Tensor::from_slice(g, &[b], &kept).expect("tensor");
    let leaves = [leaf(g, &[b, l, c], &x), leaf(g, &[b, l, c], &h), leaf(g, &[c], &gamma)];
    let (y, grads) = run(g, &leaves, &dy, |r, v| {
        let x = stored_as(r, &v[0], DType::f16_if(halves[0]))?;
        let h = stored_as(r, &v[1], DType::f16_if(halves[1]))?;
        let y = layer_scale(r, &x, &h, &v[2], drops.then_some(&table))?;
        assert!(!y.data.is_f16());
        Ok(y)
    });
    let (x, h, gamma, kept, dy) = (wide(&x), wide(&h), wide(&gamma), wide(&kept), wide(&dy));
    let drop_path = drops.then_some(&kept[..]);
    let (dh, dgamma) = backward(l, &h, &gamma, drop_path, &dy);
    let at = format!("({b}, {l}, {c}), DropPath {drops}, f16 {halves:?}");
    // three roundings of numbers up to 20
    let tol = Tol { rel: 4e-7, abs: 2e-6 };
    close(&format!("{at} y"), &y, &forward(l, &x, &h, &gamma, drop_path), tol);
    close(&format!("{at} dx"), &grads[0], &dy, Tol::EXACT.or_f16(halves[0]));
    close(&format!("{at} dh"), &grads[1], &dh, tol.or_f16(halves[1]));
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
            check(g, [b, l, c], false, [false; 2]);
            check(g, [b, l, c], true, [false; 2]);
        }
        for (shape, drops) in some([([1, 1, 2], false), ([5, 49, 12], true), ([2, 300, 66], false)]) {
            [[true, true], [false, true], [true, false]].into_iter().for_each(|halves| check(g, shape, drops, halves));
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
    let odd = Var::leaf(Tensor::scratch_of(DType::F16, "h", &[2, 3]));
    let e = layer_scale(r, &x, &odd, &gamma, None).expect_err("3 in f16").to_string();
    assert!(e.contains("layer_scale: channels of h in f16: got 3, expected an even number"), "{e}");
}

use rowscan::cpu::channel_gate::{backward, forward};
use rowscan::gpu::{Caps, DType, Gpu};
use rowscan::ops::channel_gate::channel_gate;
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, round_to_f16, run, some, stored_as, wide};

fn check(g: &Gpu, b: usize, l: usize, c: usize, half: bool) {
    let mut random = Random::new((b * 7 + l * 31 + c) as u64);
    let (mut x, t, mut dy) = (random.normal(b * l * c), random.uniform(b * c, -4.0, 4.0), random.normal(b * l * c));
    if half {
        [&mut x, &mut dy].into_iter().for_each(|v| round_to_f16(v));
    }
    let leaves = [leaf(g, &[b, l, c], &x), leaf(g, &[b, c], &t)];
    let (y, grads) = run(g, &leaves, &dy, |r, v| {
        let x = stored_as(r, &v[0], DType::f16_if(half))?;
        let y = channel_gate(r, &x, &v[1])?;
        assert_eq!(y.data.is_f16(), half);
        stored_as(r, &y, DType::F32)
    });
    let (x, t, dy) = (wide(&x), wide(&t), wide(&dy));
    let (dx, dt) = backward(l, c, &x, &t, &dy);
    let at = format!("({b}, {l}, {c}), f16 {half}");
    // a product, and the error of exp, which WGSL allows to be 3 ulp and more
    let tol = Tol { rel: 2e-6, abs: 1e-6 }.or_f16(half);
    close(&format!("{at} y"), &y, &forward(l, c, &x, &t), tol);
    close(&format!("{at} dx"), &grads[0], &dx, tol);
    // a sum of L terms of random sign
    close(&format!("{at} dt"), &grads[1], &dt, Tol { rel: 4e-6, abs: 1e-7 * (10.0 + l as f64) });
}

#[test]
fn channel_gate_matches_cpu() {
    each_tier(|g| {
        let shapes = [(1, 1, 1), (2, 5, 3), (3, 64, 65), (2, 197, 12), (40_001, 1, 2), (1, 70_001, 3)];
        let mut random = Random::new(4);
        let mut drawn = || [6, 300, 90].map(|below| 1 + random.below(1, below)[0] as usize);
        let drawn: Vec<_> = (0..6).map(|_| drawn()).map(|[b, l, c]| (b, l, c)).collect();
        some(shapes.into_iter().chain(drawn)).for_each(|(b, l, c)| check(g, b, l, c, false));
        some([(1, 1, 2), (2, 197, 12), (3, 65, 66)]).for_each(|(b, l, c)| check(g, b, l, c, true));
    });
}

#[test]
fn channel_gate_skips_what_nobody_wants() {
    let g = Gpu::dry(Caps::portable());
    let tensor = |shape: &[usize]| Tensor::input("constant", shape);
    let count = |x: Var, t: Var| {
        let recorded = Recorder::new(&g).record(|r| {
            let y = channel_gate(r, &x, &t)?;
            r.backward_from(&y, tensor(&[2, 3, 4]), Grads::default())
        });
        recorded.unwrap_or_else(|e| panic!("{e}")).0.launches().len()
    };
    let (x, t) = (tensor(&[2, 3, 4]), tensor(&[2, 4]));
    assert_eq!(count(Var::constant(x.clone()), Var::constant(t.clone())), 1);
    assert_eq!(count(Var::leaf(x.clone()), Var::constant(t.clone())), 2);
    assert_eq!(count(Var::leaf(x), Var::leaf(t)), 4);
}

#[test]
fn channel_gate_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let (x, t) = (leaf(g, &[2, 1, 3], &[0.0; 6]), leaf(g, &[2, 2], &[0.0; 4]));
    let e = channel_gate(&mut Recorder::new(g), &x, &t).expect_err("3 and 2 channels").to_string();
    assert!(e.contains("channel_gate: x: got [2, 1, 3], expected (2, .., 2)"), "{e}");
    let x = Var::leaf(Tensor::scratch_of(DType::F16, "x", &[2, 1, 3]));
    let e = channel_gate(&mut Recorder::new(g), &x, &leaf(g, &[2, 3], &[0.0; 6])).expect_err("3 in f16").to_string();
    assert!(e.contains("channel_gate: channels in f16: got 3, expected an even number"), "{e}");
}

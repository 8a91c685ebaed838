use rowscan::cpu::add as cpu;
use rowscan::gpu::{Caps, DType, Gpu};
use rowscan::ops::add::{add, add_drop_path};
use rowscan::ops::scale::scale;
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, leaf, round_to_f16, run, stored_as, wide};

/// One rounding of f32.
const TOL: Tol = Tol { rel: 6e-8, abs: 0.0 };

#[test]
fn add_matches_cpu() {
    each_tier(|g| {
        for n in [1, 7, 257, 8_400_000] {
            let mut random = Random::new(n as u64);
            let (a, b, dy) = (random.uniform(n, -1.0, 1.0), random.uniform(n, -1.0, 1.0), random.uniform(n, -1.0, 1.0));
            let (y, grads) = run(g, &[leaf(g, &[n], &a), leaf(g, &[n], &b)], &dy, |r, v| add(r, &v[0], &v[1]));
            let want = cpu::backward(&wide(&dy));
            close("y", &y, &cpu::forward(&wide(&a), &wide(&b)), TOL);
            close("da", &grads[0], &want.da, Tol::EXACT);
            close("db", &grads[1], &want.db, Tol::EXACT);
        }
    });
}

#[test]
fn add_kept_matches_cpu() {
    each_tier(|g| {
        for (samples, per) in [(1, 1), (3, 7), (131, 65), (2, 4_200_000)] {
            let n = samples * per;
            let mut random = Random::new(n as u64);
            let (a, b, dy) = (random.uniform(n, -1.0, 1.0), random.uniform(n, -1.0, 1.0), random.uniform(n, -1.0, 1.0));
            let drop_path: Vec<f32> = (0..samples).map(|i| if i % 3 == 1 { 0.0 } else { 1.25 }).collect();
            let factors = Tensor::from_slice(g, &[samples], &drop_path).unwrap();
            let leaves = [leaf(g, &[samples, per], &a), leaf(g, &[samples, per], &b)];
            let (y, grads) = run(g, &leaves, &dy, |r, v| add_drop_path(r, &v[0], &v[1], &factors));
            let want = cpu::drop_path_backward(&wide(&dy), &wide(&drop_path));
            // two roundings of terms up to 1.25
            close(
                "y",
                &y,
                &cpu::with_drop_path(&wide(&a), &wide(&b), &wide(&drop_path)),
                Tol { rel: 1.2e-7, abs: 1.5e-7 },
            );
            close("da", &grads[0], &want.da, Tol::EXACT);
            close("db", &grads[1], &want.db, TOL);
        }
    });
}

/// Both sums with summands stored as f16: a sum of two of them is f16, and any other is f32. A gradient has the type of
/// its summand.
#[test]
fn add_in_f16_matches_cpu() {
    each_tier(|g| {
        for (samples, per, halves) in
            [(1, 2, [true, true]), (3, 34, [true, false]), (131, 66, [false, true]), (3, 70_000, [true, true])]
        {
            let n = samples * per;
            let mut random = Random::new(n as u64);
            let mut draw = |half: bool| {
                let mut values = random.uniform(n, -1.0, 1.0);
                if half {
                    round_to_f16(&mut values);
                }
                values
            };
            let (a, b, dy) = (draw(halves[0]), draw(halves[1]), draw(true));
            let kept: Vec<f32> = (0..samples).map(|i| if i % 3 == 1 { 0.0 } else { 1.25 }).collect();
            let factors = Tensor::from_slice(g, &[samples], &kept).unwrap();
            let half = halves == [true; 2];
            for drops in [false, true] {
                let leaves = [leaf(g, &[samples, per], &a), leaf(g, &[samples, per], &b)];
                let (y, grads) = run(g, &leaves, &dy, |r, v| {
                    let [a, b] = [0, 1].map(|i| stored_as(r, &v[i], DType::f16_if(halves[i])));
                    let (a, b) = (a?, b?);
                    let y = if drops { add_drop_path(r, &a, &b, &factors)? } else { add(r, &a, &b)? };
                    assert_eq!(y.data.dtype(), DType::f16_if(half));
                    stored_as(r, &y, DType::F32)
                });
                let factors = if drops { wide(&kept) } else { vec![1.0; samples] };
                let want = cpu::drop_path_backward(&wide(&dy), &factors);
                let tol = Tol { rel: 1.2e-7, abs: 1.5e-7 }; // two roundings of terms up to 1.25
                close("y", &y, &cpu::with_drop_path(&wide(&a), &wide(&b), &factors), tol.or_f16(half));
                close("da", &grads[0], &want.da, Tol::EXACT);
                close("db", &grads[1], &want.db, TOL.or_f16(halves[1]));
            }
        }
    });
}

/// `add` makes the tensor dy the gradient of one operand, where later contributions are added in place. The gradient of
/// the other operand must not change with it.
#[test]
fn add_does_not_share_a_gradient_that_grows() {
    each_tier(|g| {
        let (a, b, dy) = ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [0.5, 0.25, 2.0]);
        let times = |c: f64| dy.map(|v| c * f64::from(v));
        for swapped in [false, true] {
            let (y, grads) = run(g, &[leaf(g, &[3], &a), leaf(g, &[3], &b)], &dy, |r, v| {
                let tripled = scale(r, &v[0], 3.0)?;
                let both = if swapped { add(r, &v[1], &v[0])? } else { add(r, &v[0], &v[1])? };
                add(r, &both, &tripled)
            });
            close("y", &y, &[14.0, 28.0, 42.0], Tol::EXACT);
            close("da", &grads[0], &times(4.0), Tol::EXACT);
            close("db", &grads[1], &times(1.0), Tol::EXACT);
        }
        let (y, grads) = run(g, &[leaf(g, &[3], &a)], &dy, |r, v| {
            let twice = add(r, &v[0], &v[0])?;
            add(r, &v[0], &twice)
        });
        close("3a", &y, &[3.0, 6.0, 9.0], Tol::EXACT);
        close("da of 3a", &grads[0], &times(3.0), Tol::EXACT);
        let (_, grads) = run(g, &[leaf(g, &[3], &a)], &dy, |r, v| add(r, &v[0], &v[0]));
        close("da of 2a", &grads[0], &times(2.0), Tol::EXACT);
        let fixed = Var::constant(leaf(g, &[3], &b).data);
        let (_, grads) = run(g, &[leaf(g, &[3], &a)], &dy, |r, v| add(r, &fixed, &v[0]));
        close("da beside a constant", &grads[0], &times(1.0), Tol::EXACT);
    });
}

#[test]
fn add_names_what_does_not_fit() {
    let g = Gpu::dry(Caps::portable());
    let var = |shape: &[usize]| Var::leaf(Tensor::input("v", shape));
    let error = add(&mut Recorder::new(&g), &var(&[2, 3]), &var(&[3, 2])).unwrap_err();
    assert_eq!(error.to_string(), "add: b: got [3, 2], expected [2, 3]");
    let odd = Var::leaf(Tensor::scratch_of(DType::F16, "odd", &[3]));
    let error = add(&mut Recorder::new(&g), &odd, &odd).unwrap_err();
    assert_eq!(error.to_string(), "add: elements in f16: got 3, expected an even number");
}

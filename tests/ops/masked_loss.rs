use rowscan::cpu::masked_loss::{Form, of};
use rowscan::gpu::Gpu;
use rowscan::ops::masked_loss::{Divisor, bce_with_logits, l1};
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, run, some, wide};

/// `counted`: what the divisor sums; no numbers for a fixed one.
fn check(g: &Gpu, rows: usize, d: usize, size: f32, counted: &[f32]) {
    let mut random = Random::new((rows * 31 + d) as u64);
    let x: Vec<f32> = random.normal(rows * d).into_iter().map(|v| size * v).collect();
    let weight: Vec<f32> = random.below(rows, 3).into_iter().map(|v| v as f32 / 2.0).collect();
    let dloss = random.normal(1);
    for form in [Form::CrossEntropy, Form::Difference] {
        let mut target = random.uniform(rows * d, 0.0, 1.0);
        target[0] = x[0]; // no slope at a difference of 0
        let on =
            |shape: &[usize], values: &[f32]| Tensor::from_slice(g, shape, values).unwrap_or_else(|e| panic!("{e}"));
        let (target_, weight_) = (on(&[rows, d], &target), on(&[rows], &weight));
        let counts = (!counted.is_empty()).then(|| on(&[counted.len()], counted));
        let divisor = counts.as_ref().map_or(Divisor::Of(7.5), |counts| Divisor::Times(7.5, counts));
        let (loss, grads) = run(g, &[leaf(g, &[rows, d], &x)], &dloss, |r, v| match form {
            Form::CrossEntropy => bce_with_logits(r, &v[0], &target_, &weight_, divisor),
            Form::Difference => l1(r, &v[0], &target_, &weight_, divisor),
        });
        let number = 7.5 * if counted.is_empty() { 1.0 } else { wide(counted).iter().sum::<f64>() };
        let (want, dx) = of(form, &wide(&x), &wide(&target), &wide(&weight), number);
        let at = format!("{form:?} ({rows}, {d})");
        // a tree of sums of positive terms, whose logarithm is off by 2⁻²¹
        let most = if number == 0.0 { 0.0 } else { (rows * d) as f64 / number };
        close(&format!("{at} loss"), &loss, &[want], Tol { rel: 4e-6, abs: 1e-6 * most });
        let dx: Vec<f64> = dx.into_iter().map(|v| f64::from(dloss[0]) * v).collect();
        // the sigmoid is off by a few ulp; three products
        close(
            &format!("{at} dx"),
            &grads[0],
            &dx,
            Tol { rel: 2e-6, abs: if number == 0.0 { 0.0 } else { 4e-6 / number } },
        );
    }
}

#[test]
fn masked_loss_matches_cpu() {
    each_tier(|g| {
        check(g, 1, 1, 1.0, &[]);
        check(g, 5, 8, 3.0, &[1.0, 0.0, 1.0, 1.0]);
        check(g, 300, 784, 2.0, &[]);
        check(g, 32_771, 4, 1.0, &vec![1.0; 1031]);
        check(g, 3, 5, 1.0, &[0.0, 0.0]); // nothing counts
        check(g, 4, 3, 90.0, &[]); // exponentials that vanish
        let mut random = Random::new(9);
        for _ in some(0..8) {
            let d = random.below(2, 1 << 16);
            check(g, 1 + d[0] as usize % 900, 1 + d[1] as usize % 50, 4.0, &[2.0, 3.0]);
        }
    });
}

/// A row of weight 0 may hold anything.
#[test]
fn rows_of_weight_0_are_not_read() {
    each_tier(|g| {
        let weight = Tensor::from_slice(g, &[2], &[0.0, 1.0]).unwrap_or_else(|e| panic!("{e}"));
        let target = Tensor::from_slice(g, &[2, 1], &[0.5, 1.0]).unwrap_or_else(|e| panic!("{e}"));
        for x in [f32::INFINITY, f32::NAN] {
            let (loss, grads) =
                run(g, &[leaf(g, &[2, 1], &[x, 3.0])], &[1.0], |r, v| l1(r, &v[0], &target, &weight, Divisor::Of(1.0)));
            assert_eq!((loss, grads), (vec![2.0], vec![vec![0.0, 1.0]]));
        }
    });
}

#[test]
fn masked_loss_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let x = leaf(g, &[2, 3], &[0.0; 6]);
    let of = |target: &[usize], weights: usize| {
        let (target, weight) = (Tensor::input("target", target), Tensor::input("weight", &[weights]));
        l1(&mut Recorder::new(g), &x, &target, &weight, Divisor::Of(1.0)).expect_err("sizes").to_string()
    };
    assert!(of(&[3, 2], 2).contains("l1: target"));
    assert!(of(&[2, 3], 4).contains("l1: x"));
    assert!(of(&[2, 3], 0).contains("l1: x"));
}

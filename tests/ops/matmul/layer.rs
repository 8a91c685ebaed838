//! The linear layer `matmul`, y = x·wᵀ + bias + residual, with every gradient.

use rowscan::Result;
use rowscan::cpu::matmul as cpu;
use rowscan::gpu::{Caps, Gpu, Precision};
use rowscan::ops::matmul::{Added, Form, Gemm, MatmulOptions, gemm_with, matmul};
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

use super::{DIRECT, tol};
use crate::common::{Random, Tol, close, each_choice, each_tier, leaf, run, some, wide};

fn with_residual(residual: &Var) -> MatmulOptions<'_> {
    MatmulOptions { residual: Some(residual), ..MatmulOptions::default() }
}

fn with_both<'a>(bias: &'a Var, residual: &'a Var) -> MatmulOptions<'a> {
    MatmulOptions { bias: Some(bias), ..with_residual(residual) }
}

/// Mixed precision rounds each operand of y = x·wᵀ, dx = dy·w and dw = dyᵀ·x to f16 once. Sums stay f32.
#[test]
fn matmul_in_mixed_precision_rounds_every_operand_once() {
    each_tier(|g| {
        let (m, n, k) = (37, 24, 20);
        let mut random = Random::new(21);
        let (x, w, dy) = (random.normal(m * k), random.normal(n * k), random.normal(m * n));
        let leaves = [leaf(g, &[m, k], &x), leaf(g, &[n, k], &w)];
        let rounded = |v: &[f32]| v.iter().map(|&v| half::f16::from_f32(v).to_f64()).collect::<Vec<_>>();
        let dim = cpu::Dims { s: 1, m, n, k };
        let want = cpu::backward(dim, &rounded(&x), &rounded(&w), &rounded(&dy));
        // a precision for forward and one for backward
        let product = |forward, backward| {
            run(g, &leaves, &dy, |r, v| {
                r.set_precision(forward);
                let y = matmul(r, &v[0], &v[1], MatmulOptions::default());
                r.set_precision(backward);
                y
            })
        };
        let (y, grads) = product(Precision::Mixed, Precision::Mixed);
        close("y", &y, &cpu::forward(dim, &rounded(&x), &rounded(&w), None, None), tol(k));
        close("dx", &grads[0], &want.dx, tol(n));
        close("dw", &grads[1], &want.dw, tol(m));
        assert_eq!(Recorder::new(g).precision(), Precision::F32, "the precision is each recorder's own");
        let (exact, exact_grads) = run(g, &leaves, &dy, |r, v| matmul(r, &v[0], &v[1], MatmulOptions::default()));
        assert!(exact != y && exact_grads != grads, "f32 does not round the operands");
        let changed = product(Precision::Mixed, Precision::F32);
        assert!(changed == (y, exact_grads), "a precision applies to the launches that follow");
    });
}

/// A layer or a batch of S layers against the oracle: with everything that it can add, with nothing, and of a constant.
fn check_layer(g: &Gpu, [s, m, n, k]: [usize; 4]) {
    let dim = cpu::Dims { s, m, n, k };
    let mut random = Random::new((m * n) as u64);
    let (x, w, bias) = (random.normal(s * m * k), random.normal(s * n * k), random.normal(s * n));
    let (residual, dy) = (random.normal(s * m * n), random.normal(s * m * n));
    let (w_shape, bias_shape) = if s == 1 { (vec![n, k], vec![n]) } else { (vec![s, n, k], vec![s, n]) };
    let leaves = [
        leaf(g, &[s, 1, m, k], &x),
        leaf(g, &w_shape, &w),
        leaf(g, &bias_shape, &bias),
        leaf(g, &[s, 1, m, n], &residual),
    ];
    let (wx, ww, wdy) = (wide(&x), wide(&w), wide(&dy));
    let want = cpu::backward(dim, &wx, &ww, &wdy);

    let (y, grads) = run(g, &leaves, &dy, |r, v| matmul(r, &v[0], &v[1], with_both(&v[2], &v[3])));
    close("y", &y, &cpu::forward(dim, &wx, &ww, Some(&wide(&bias)), Some(&wide(&residual))), tol(k));
    close("dx", &grads[0], &want.dx, tol(n));
    close("dw", &grads[1], &want.dw, tol(m));
    close("dbias", &grads[2], &want.dbias, tol(m));
    close("dresidual", &grads[3], &wdy, Tol::EXACT); // dy itself

    let (y, grads) = run(g, &leaves[..2], &dy, |r, v| matmul(r, &v[0], &v[1], MatmulOptions::default()));
    close("y", &y, &cpu::forward(dim, &wx, &ww, None, None), tol(k));
    close("dx", &grads[0], &want.dx, tol(n));
    close("dw", &grads[1], &want.dw, tol(m));

    // a constant x gets no gradient and leaves dw as it is
    let (_, grads) = run(g, &leaves[1..2], &dy, |r, v| {
        matmul(r, &Var::constant(leaves[0].data.clone()), &v[0], MatmulOptions::default())
    });
    close("dw of constant x", &grads[0], &want.dw, tol(m));

    // a constant weight: dbias comes without dw
    let (_, grads) = run(g, &leaves[2..3], &dy, |r, v| {
        let [x, w] = [0, 1].map(|i: usize| Var::constant(leaves[i].data.clone()));
        matmul(r, &x, &w, MatmulOptions { bias: Some(&v[0]), ..MatmulOptions::default() })
    });
    close("dbias of constant w", &grads[0], &want.dbias, tol(m));
}

#[test]
fn matmul_matches_cpu() {
    each_tier(|g| {
        for dims in [[1, 1, 1, 1], [1, 7, 5, 3], [3, 13, 8, 12], [1, 257, 44, 64], [2, 131, 67, 65]] {
            check_layer(g, dims);
        }
    });
}

/// On a GPU a product of few tiles splits k. So y, dx, and dw with dbias are each sums of parts in one of these.
#[test]
fn matmul_of_few_tiles_matches_cpu() {
    each_choice(|g| {
        for dims in some([[1, 20, 24, 1030], [2, 9, 1030, 12], [1, 1030, 24, 20], [2, 901, 7, 5]]) {
            check_layer(g, dims);
        }
    });
}

/// Two layers, h = x·wᵀ + x and y = h·wᵀ + x, share w and the residual x: every gradient is a sum of contributions.
#[test]
fn matmul_adds_to_what_its_inputs_have_collected() {
    each_tier(|g| {
        let (m, n) = (37, 20);
        let dim = cpu::Dims { s: 1, m, n, k: n };
        let mut random = Random::new(9);
        let (x, w, dy) = (random.normal(m * n), random.normal(n * n), random.normal(m * n));
        let w: Vec<f32> = w.iter().map(|v| v / 4.0).collect();
        let (wx, ww, wdy) = (wide(&x), wide(&w), wide(&dy));
        let h = cpu::forward(dim, &wx, &ww, None, Some(&wx));
        let y = cpu::forward(dim, &h, &ww, None, Some(&wx));
        let plus = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<_>>();
        let second = cpu::backward(dim, &h, &ww, &wdy);
        let first = cpu::backward(dim, &wx, &ww, &second.dx);
        let dx = plus(&plus(&first.dx, &second.dx), &wdy);

        let leaves = [leaf(g, &[m, n], &x), leaf(g, &[n, n], &w)];
        let (got, grads) = run(g, &leaves, &dy, |r, v| {
            let h = matmul(r, &v[0], &v[1], with_residual(&v[0]))?;
            matmul(r, &h, &v[1], with_residual(&v[0]))
        });
        close("y", &got, &y, tol(2 * n));
        close("dx", &grads[0], &dx, tol(2 * n));
        close("dw", &grads[1], &plus(&first.dw, &second.dw), tol(4 * m));
    });
}

/// x, w and their gradients are ranges of larger tensors, as parameters are ranges of an arena. Nothing outside of the
/// gradients' ranges is written.
#[test]
fn matmul_writes_gradients_in_their_places() {
    each_tier(|g| {
        let (m, n, k) = (5, 7, 9);
        let mut random = Random::new(11);
        let (values, dy) = (random.normal(256), random.normal(m * n));
        let attempt = || -> Result<(Vec<f32>, Vec<f32>)> {
            let (weights, places) =
                (Tensor::from_slice(g, &[256], &values)?, Tensor::from_slice(g, &[256], &[-7.0; 256])?);
            let (x, w) = (Var::leaf(weights.range(64, &[m, k])?), Var::leaf(weights.range(128, &[n, k])?));
            let home = [(x.id(), places.range(64, &[m, k])?), (w.id(), places.range(128, &[n, k])?)];
            let mut r = Recorder::new(g);
            let first = matmul(&mut r, &x, &w, MatmulOptions::default())?;
            let second = matmul(&mut r, &x, &w, with_residual(&first))?;
            let seed = Tensor::from_slice(g, &[m, n], &dy)?;
            r.backward_from(&second, seed, Grads::with_places(home.into()))?;
            r.run()?;
            Ok((second.data.to_vec(g)?, places.to_vec(g)?))
        };
        let (y, places) = attempt().unwrap_or_else(|e| panic!("{e}"));
        let (x, w) = (wide(&values[64..64 + m * k]), wide(&values[128..128 + n * k]));
        let dim = cpu::Dims { s: 1, m, n, k };
        let twice = |v: Vec<f64>| v.iter().map(|v| 2.0 * v).collect::<Vec<_>>();
        let want = cpu::backward(dim, &x, &w, &wide(&dy));
        close("y", &y, &twice(cpu::forward(dim, &x, &w, None, None)), tol(2 * k));
        close("dx", &places[64..64 + m * k], &twice(want.dx), tol(2 * n));
        close("dw", &places[128..128 + n * k], &twice(want.dw), tol(2 * m));
        let outside = |i: &usize| !(64..64 + m * k).contains(i) && !(128..128 + n * k).contains(i);
        assert!((0..256).filter(outside).all(|i| places[i] == -7.0), "written outside of the places");
    });
}

#[test]
fn misuse_names_the_argument() {
    let g = Gpu::dry(Caps::portable());
    let var = |shape: &[usize]| Var::leaf(Tensor::input("v", shape));
    let message = |x: &[usize], w: &[usize], bias: Option<&[usize]>, residual: Option<&[usize]>| {
        let (bias, residual) = (bias.map(&var), residual.map(&var));
        let r = &mut Recorder::new(&g);
        matmul(
            r,
            &var(x),
            &var(w),
            MatmulOptions { bias: bias.as_ref(), residual: residual.as_ref(), ..MatmulOptions::default() },
        )
        .unwrap_err()
        .to_string()
    };
    assert_eq!(message(&[2, 3], &[5, 4], None, None), "matmul: x: got [2, 3], expected (.., 4)");
    assert_eq!(message(&[2, 3, 4], &[3, 5, 4], None, None), "matmul: x: got [2, 3, 4], expected (3, .., 4)");
    assert_eq!(message(&[2, 4], &[4], None, None), "matmul: w: got [4], expected (N, K) or (S, N, K)");
    assert_eq!(message(&[2, 4], &[5, 4], Some(&[4]), None), "matmul: bias: got [4], expected [5]");
    assert_eq!(message(&[2, 4], &[5, 4], None, Some(&[5, 2])), "matmul: residual: got [5, 2], expected [2, 5]");
    let wide = message(&[65_536, 1, 1], &[65_536, 1, 1], None, None);
    assert!(wide.contains("workgroups: got 65536"), "{wide}");
    let short = Tensor::input("short", &[7]);
    let p = Gemm::dense(Form::Nt, 1, 2, 2, 4);
    let error = gemm_with(&mut Recorder::new(&g), DIRECT, &p, &short, &short, Added::default(), &short).unwrap_err();
    assert_eq!(error.to_string(), "matmul: a: got [7], expected at least 8 elements");
}

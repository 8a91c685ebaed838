use rowscan::cpu::reduce as cpu;
use rowscan::gpu::{Caps, Gpu};
use rowscan::ops::reduce::{column_sum, mean, mean_tokens, sum};
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, leaf, run, values, wide};

/// Integers from −3 to 3. f32 sums of them are exact, so a sum that misses one element fails.
fn integers(random: &mut Random, n: usize) -> Vec<f32> {
    random.below(n, 7).into_iter().map(|v| v as f32 - 3.0).collect()
}

#[test]
fn sum_and_mean_match_cpu() {
    each_tier(|g| {
        // a workgroup sums at least 4096 elements, and a launch has at most 1024 workgroups
        for n in [1, 7, 257, 4096, 4097, 65_537, 5_000_011] {
            let mut random = Random::new(n as u64);
            let x = integers(&mut random, n);
            let leaves = [leaf(g, &[n, 1], &x)];
            let (y, grads) = run(g, &leaves, &[0.75], |r, v| sum(r, &v[0]));
            close("sum", &y, &[cpu::sum(&wide(&x))], Tol::EXACT);
            close("sum dx", &grads[0], &cpu::sum_backward(n, 0.75), Tol::EXACT);
            // two roundings, of 1/n and of the product with it: 1.2e-7
            let tol = Tol { rel: 2e-7, abs: 0.0 };
            let (y, grads) = run(g, &leaves, &[0.75], |r, v| mean(r, &v[0]));
            close("mean", &y, &[cpu::mean(&wide(&x))], tol);
            close("mean dx", &grads[0], &cpu::mean_backward(n, 0.75), tol);
        }
        // positive numbers: at most 20 additions in an invocation and 8 + 10 in the trees, each off by 6e-8
        let x = Random::new(1).uniform(100_003, 0.5, 1.5);
        let (y, _) = run(g, &[leaf(g, &[x.len()], &x)], &[1.0], |r, v| sum(r, &v[0]));
        close("sum", &y, &[cpu::sum(&wide(&x))], Tol { rel: 2.3e-6, abs: 0.0 });
    });
}

#[test]
fn mean_tokens_matches_cpu() {
    each_tier(|g| {
        for (b, l, d) in [(1, 1, 1), (3, 7, 5), (2, 197, 192), (131, 129, 67), (2, 40_001, 3)] {
            let mut random = Random::new(l as u64);
            let (x, dy) = (integers(&mut random, b * l * d), random.normal(b * d));
            let (y, grads) = run(g, &[leaf(g, &[b, l, d], &x)], &dy, |r, v| mean_tokens(r, &v[0]));
            // the sum is exact; two roundings, of 1/L and of the product with it
            let tol = Tol { rel: 2e-7, abs: 0.0 };
            close("mean_tokens", &y, &cpu::mean_tokens(l, d, &wide(&x)), tol);
            close("mean_tokens dx", &grads[0], &cpu::mean_tokens_backward(l, d, &wide(&dy)), tol);
        }
    });
}

#[test]
fn column_sum_matches_cpu() {
    let shapes = [
        vec![1, 1],
        vec![7, 5],
        vec![128, 64],
        vec![129, 67],
        vec![1003, 192],
        vec![100_003, 3],
        vec![3, 1, 2],
        vec![3, 257, 65],
        vec![2, 40_000, 2],
    ];
    each_tier(|g| {
        for shape in &shapes {
            let (rows, cols) = (shape[shape.len() - 2], shape[shape.len() - 1]);
            let x = integers(&mut Random::new(rows as u64), shape.iter().product());
            let got = values(g, |r| {
                let x = Tensor::from_slice(g, shape, &x)?;
                let out: Vec<usize> = shape[..shape.len() - 2].iter().copied().chain([cols]).collect();
                let out = Tensor::scratch("out", &out);
                column_sum(r, &x, &out)?;
                Ok(out)
            });
            let want: Vec<f64> = wide(&x).chunks(rows * cols).flat_map(|x| cpu::column_sum(cols, x)).collect();
            close(&format!("column_sum {shape:?}"), &got, &want, Tol::EXACT);
        }
    });
}

#[test]
fn column_sum_names_what_does_not_fit() {
    let g = Gpu::dry(Caps::portable());
    let x = Tensor::input("x", &[2, 3, 4]);
    let r = &mut Recorder::new(&g);
    let error = column_sum(r, &x, &Tensor::scratch("out", &[4])).unwrap_err();
    assert_eq!(error.to_string(), "column_sum: out: got [4], expected [2, 4]");
    let flat = Tensor::input("x", &[24]);
    let error = column_sum(r, &flat, &flat).unwrap_err();
    assert_eq!(error.to_string(), "column_sum: x: got [24], expected (rows, D) or (S, rows, D)");
}

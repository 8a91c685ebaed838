use rowscan::Result;
use rowscan::cpu::matmul as cpu;
use rowscan::gpu::{Caps, Gpu};
use rowscan::ops::matmul::{Form, Gemm, Variant, gemm_with, matmul, pick};
use rowscan::tape::{Grads, Tape, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, leaf, run, wide};

/// Sums of k products of about unit size: a result is about √k and its rounding errors are a random walk of k steps of
/// about ε·√k, so ε·k/2 typically; 8 ε·√k·√k would be certain, 6e-8·(4 + k)·2 is never reached by chance.
fn tol(k: usize) -> Tol {
    Tol { rel: 1e-6, abs: 1.2e-7 * (4.0 + k as f64) }
}

const DIRECT: Variant = Variant { tiled: false, splits: 1 };
const TILED: Variant = Variant { tiled: true, splits: 1 };

/// Rows and columns of an operand as it lies in memory.
fn size(p: &Gemm, second: bool) -> (usize, usize) {
    match (p.form, second) {
        (Form::Tn, false) => (p.k, p.m),
        (_, false) => (p.m, p.k),
        (Form::Nt, true) => (p.n, p.k),
        (_, true) => (p.k, p.n),
    }
}

/// One product in one variant against the oracle; what lies between the rows is NaN and must have no effect.
fn check(g: &Gpu, variant: Variant, p: Gemm, epilogue: bool, seed: u64) {
    let mut random = Random::new(seed);
    let mut operand = |second: bool, ld: usize, stride: usize| {
        let (rows, cols) = size(&p, second);
        let mut held = vec![f32::NAN; (p.batch - 1) * stride + (rows - 1) * ld + cols];
        let values = random.normal(p.batch * rows * cols);
        for (i, row) in values.chunks_exact(cols).enumerate() {
            let at = i / rows * stride + i % rows * ld;
            held[at..at + cols].copy_from_slice(row);
        }
        let contiguous_k = if second { p.form == Form::Nt } else { p.form != Form::Tn };
        let at = |s: usize, i: usize, k: usize| {
            let (row, col) = if contiguous_k { (i, k) } else { (k, i) };
            f64::from(values[(s * rows + row) * cols + col])
        };
        let others = if second { p.n } else { p.m };
        let per_k = |i: usize| at(i / (others * p.k), i / p.k % others, i % p.k);
        let flat: Vec<f64> = (0..p.batch * others * p.k).map(per_k).collect();
        (held, flat)
    };
    let (a, a_flat) = operand(false, p.lda, p.a_stride);
    let (b, b_flat) = operand(true, p.ldb, p.b_stride);
    let bias = random.normal(p.batch * p.n);
    let c_len = (p.batch - 1) * p.c_stride + (p.m - 1) * p.ldc + p.n;
    let residual = random.normal(c_len);
    let dense = |full: &[f32]| -> Vec<f32> {
        let at = |i: usize| i / (p.m * p.n) * p.c_stride + i / p.n % p.m * p.ldc + i % p.n;
        (0..p.batch * p.m * p.n).map(|i| full[at(i)]).collect()
    };
    let attempt = || -> Result<Vec<f32>> {
        let tensor = |v: &[f32]| Tensor::from_slice(g, &[v.len()], v);
        let (a, b, bias, residual) = (tensor(&a)?, tensor(&b)?, tensor(&bias)?, tensor(&residual)?);
        let c = tensor(&vec![-7.0; c_len])?;
        gemm_with(g, variant, &p, &a, &b, epilogue.then_some(&bias), epilogue.then_some(&residual), &c)?;
        c.to_vec(g)
    };
    let got = attempt().unwrap_or_else(|e| panic!("{e}"));
    let dims = cpu::Dims { s: p.batch, m: p.m, n: p.n, k: p.k };
    let (bias, inner) = (wide(&bias), wide(&dense(&residual)));
    let want = cpu::forward(dims, &a_flat, &b_flat, epilogue.then_some(&bias), epilogue.then_some(&inner));
    close(&format!("{variant:?} {p:?}"), &dense(&got), &want, tol(p.k));
    let untouched = got.iter().filter(|&&v| v == -7.0).count();
    assert_eq!(untouched, c_len - p.batch * p.m * p.n, "elements between the rows of c");
}

#[test]
fn gemm_matches_cpu_in_every_form_and_variant() {
    each_tier(|g| {
        let split = Variant { tiled: true, splits: 3 };
        for form in [Form::Nt, Form::Nn, Form::Tn] {
            for (m, n, k) in [(1, 1, 1), (7, 5, 3), (64, 64, 16), (67, 129, 37), (128, 72, 100), (1, 192, 20), (65, 1, 68)] {
                for (i, variant) in [DIRECT, TILED, split].into_iter().enumerate() {
                    check(g, variant, Gemm::dense(form, 1, m, n, k), i != 1, 1);
                    check(g, variant, Gemm::dense(form, 3, m, n, k), i == 1, 2);
                }
            }
        }
    });
}

//! `gemm`, the product behind every linear layer, and `matmul`, the layer with its gradients.

mod choice;
mod gemm;
mod layer;

use rowscan::cpu::matmul as cpu;
use rowscan::gpu::{Gpu, Precision};
use rowscan::ops::matmul::{Added, Form, Gemm, Route, Variant, gemm_with};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, at_once, close, wide};

/// Tolerance of a sum of k products of unit variance. The partial sum after i products is about √i, and each rounding
/// is off by at most u = 6e-8 of it. So the error is a random walk of size u/√3·√(1 + … + k) ≈ 2.4e-8·k. `abs` is eight
/// times that; `rel` covers the rounding of the result and of the epilogue.
fn tol(k: usize) -> Tol {
    Tol { rel: 2e-7, abs: 2e-7 * (4.0 + k as f64) }
}

const DIRECT: Variant = f32(Route::Direct(8, 8), 1);
const TILED: Variant = f32(Route::Tiled(64, 64), 1);

const fn f32(path: Route, splits: usize) -> Variant {
    Variant { path, splits, precision: Precision::F32 }
}

/// Tolerance of a variant, for operands that the oracle reads rounded alike. Cooperative matrices may truncate sums
/// instead of rounding them: their errors add up with one sign, hence four times [`tol`]. `Precision::High` splits each
/// f32 operand into two f16, which loses 2⁻²¹ of each product, √k·2⁻²¹ of the sum; 2.4e-6·√k is five times that.
fn tol_of(variant: Variant, k: usize) -> Tol {
    let Tol { rel, abs } = tol(k);
    match (variant.path, variant.precision) {
        (Route::Coop(_), Precision::High) => Tol { rel: 1e-6, abs: 4.0 * abs + 2.4e-6 * (k as f64).sqrt() },
        (Route::Coop(_), _) => Tol { rel: 4.0 * rel, abs: 4.0 * abs },
        _ => Tol { rel, abs },
    }
}

/// The value of an operand as `variant` reads it.
fn rounded(variant: Variant, value: f32) -> f64 {
    let to_f16 = variant.precision == Precision::Mixed;
    if to_f16 { half::f16::from_f32(value).to_f64() } else { f64::from(value) }
}

/// Variants on cooperative matrices, if the adapter has them.
fn coop(g: &Gpu) -> Vec<Variant> {
    let coop = |side, splits, precision| Variant { path: Route::Coop(side), splits, precision };
    let (mixed, high) = (Precision::Mixed, Precision::High);
    let all = [coop(64, 1, mixed), coop(64, 3, mixed), coop(128, 1, mixed), coop(64, 1, high), coop(64, 2, high)];
    if g.caps().tiers.coop { all.into() } else { Vec::new() }
}

/// Rows and columns of an operand (a, or b if `second`) as it lies in memory.
fn size(p: &Gemm, second: bool) -> (usize, usize) {
    match (p.form, second) {
        (Form::Tn, false) => (p.k, p.m),
        (_, false) => (p.m, p.k),
        (Form::Nt, true) => (p.n, p.k),
        (_, true) => (p.k, p.n),
    }
}

/// Compares one product with the oracle. The gaps between rows of a and b hold NaN, which must not reach c; those
/// between rows of c hold −7, which must stay.
fn check(g: &Gpu, variant: Variant, p: Gemm, epilogue: bool, seed: u64) {
    let mut random = Random::new(seed);
    let mut operand = |second: bool, ld: usize, stride: usize| {
        let (rows, cols) = size(&p, second);
        let mut held = vec![f32::NAN; (p.batch - 1) * stride + (rows - 1) * ld + cols];
        // 0 where the f16 would be subnormal, because drivers may flush those
        let values = random.normal(p.batch * rows * cols).into_iter().map(|v| if v.abs() < 1e-4 { 0.0 } else { v });
        let values: Vec<f32> = values.collect();
        for (i, row) in values.chunks_exact(cols).enumerate() {
            let at = i / rows * stride + i % rows * ld;
            held[at..at + cols].copy_from_slice(row);
        }
        let contiguous_k = if second { p.form == Form::Nt } else { p.form != Form::Tn };
        let at = |s: usize, i: usize, k: usize| {
            let (row, col) = if contiguous_k { (i, k) } else { (k, i) };
            rounded(variant, values[(s * rows + row) * cols + col])
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
    let on = |v: &[f32]| Tensor::from_slice(g, &[v.len()], v).expect("on the device");
    let (gpu_bias, gpu_residual, c) = (on(&bias), on(&residual), on(&vec![-7.0; c_len]));
    let added = Added { bias: epilogue.then_some(&gpu_bias), residual: epilogue.then_some(&gpu_residual) };
    at_once(g, |r| gemm_with(r, variant, &p, &on(&a), &on(&b), added, &c));
    let got = c.to_vec(g).expect("readable");
    let dims = cpu::Dims { s: p.batch, m: p.m, n: p.n, k: p.k };
    let (bias, inner) = (wide(&bias), wide(&dense(&residual)));
    let want = cpu::forward(dims, &a_flat, &b_flat, epilogue.then_some(&bias), epilogue.then_some(&inner));
    close(&format!("{variant:?} {p:?}"), &dense(&got), &want, tol_of(variant, p.k));
    let untouched = got.iter().filter(|&&v| v == -7.0).count();
    assert_eq!(untouched, c_len - p.batch * p.m * p.n, "elements between the rows of c");
}

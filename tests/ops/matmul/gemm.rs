//! `gemm` in every form, variant and memory layout, against the oracle.

use rowscan::Result;
use rowscan::gpu::{Caps, DType, Gpu, Precision};
use rowscan::ops::matmul::{Added, Form, Gemm, Route, Variant, gemm_and_sums, gemm_and_sums_with, gemm_with, pick};
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use super::{DIRECT, TILED, check, coop, f32, size, tol};
use crate::common::{Random, at_once, close, each_tier, one_in, some};

#[test]
fn gemm_matches_cpu_in_every_form_and_variant() {
    let shapes = [(1, 1, 1), (7, 5, 3), (64, 64, 16), (67, 129, 37), (128, 72, 100), (1, 192, 20), (65, 1, 68)];
    each_tier(|g| {
        let mixed = |path, splits| Variant { precision: Precision::Mixed, ..f32(path, splits) };
        let mut variants = vec![DIRECT, TILED, f32(Route::Tiled(64, 64), 3), f32(Route::Tiled(128, 64), 1)];
        variants.extend([f32(Route::Tiled(64, 128), 2), f32(Route::Tiled(128, 128), 1)]);
        variants.extend([f32(Route::Direct(16, 4), 2), mixed(Route::Direct(8, 8), 1), mixed(Route::Tiled(64, 64), 2)]);
        variants.extend(coop(g));
        variants.retain(|variant| variant.check(g.caps()).is_ok());
        for form in [Form::Nt, Form::Nn, Form::Tn] {
            // compiling takes longest: a variant has all of its shapes
            for (i, &variant) in one_in(3, variants.iter().enumerate()) {
                for (at, (m, n, k)) in some(shapes).enumerate() {
                    // one of two batch sizes and epilogues for each shape: every variant meets both
                    let (batch, epilogue) = if (i + at) % 2 == 0 { (1, i % 4 < 2) } else { (3, i % 4 >= 2) };
                    check(g, variant, Gemm::dense(form, batch, m, n, k), epilogue, batch as u64);
                }
            }
        }
    });
}

/// Without cooperative matrices, mixed precision rounds operands to f16 as IEEE 754 does: ties to even, subnormals, the
/// largest f16 (65504), overflow to infinity, NaN.
#[test]
fn without_matrices_mixed_rounds_operands_to_the_nearest_f16() {
    let edges = [0.1, 1.000_488_3, 1.001_464_8, 6.0e-5, 2.5e-6, 2.98e-8, 2.99e-8, 65504.0, 65519.9, 65520.0, 1e9];
    let signed = edges.iter().flat_map(|&v: &f32| [v, -v]);
    let values: Vec<f32> = signed.chain([0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]).collect();
    let want: Vec<f32> = values.iter().map(|&v| half::f16::from_f32(v).to_f32()).collect();
    each_tier(|g| {
        for path in [Route::Direct(8, 8), Route::Tiled(64, 64)] {
            let variant = Variant { path, splits: 1, precision: Precision::Mixed };
            let attempt = || -> Result<Vec<f32>> {
                let (a, b) = (Tensor::from_slice(g, &[values.len()], &values)?, Tensor::from_slice(g, &[1], &[1.0])?);
                let c = Tensor::from_slice(g, &[values.len()], &vec![0.0; values.len()])?;
                let p = Gemm::dense(Form::Nt, 1, values.len(), 1, 1);
                at_once(g, |r| gemm_with(r, variant, &p, &a, &b, Added::default(), &c));
                c.to_vec(g)
            };
            let got = attempt().unwrap_or_else(|e| panic!("{e}"));
            for ((value, got), want) in values.iter().zip(got).zip(&want) {
                let same = got == *want || (got.is_nan() && want.is_nan());
                assert!(same, "{path:?}: {value:e} became {got:e}, expected {want:e}");
            }
        }
    });
}

#[test]
fn gemm_fuzz_with_gaps_between_rows_and_batches() {
    each_tier(|g| {
        let mut random = Random::new(7);
        for seed in some(0..24) {
            let d: Vec<usize> = random.below(12, 1 << 16).into_iter().map(|v| v as usize).collect();
            let form = [Form::Nt, Form::Nn, Form::Tn][seed as usize % 3];
            // for an even d[0] sizes are multiples of 4, which kernels load as vec4
            let round = |v: usize| if d[0].is_multiple_of(2) { v.next_multiple_of(4) } else { v };
            let mut p = Gemm::dense(form, 1 + d[1] % 3, 1 + d[2] % 150, round(1 + d[3] % 150), round(1 + d[4] % 90));
            p.m = if form == Form::Tn { round(p.m) } else { p.m };
            (p.lda, p.ldb, p.ldc) =
                (size(&p, false).1 + round(d[5] % 9), size(&p, true).1 + round(d[6] % 9), p.n + d[7] % 5);
            p.a_stride = size(&p, false).0 * p.lda + round(d[8] % 9);
            p.b_stride = size(&p, true).0 * p.ldb + round(d[9] % 9);
            p.c_stride = p.m * p.ldc + d[10] % 7;
            let mut variants = vec![DIRECT, TILED, f32(Route::Tiled(128, 64), 1), f32(Route::Tiled(64, 128), 1)];
            variants.extend([
                f32(Route::Tiled(128, 128), 1),
                f32(Route::Direct(16, 4), 1),
                f32(Route::Direct(16, 8), 1),
            ]);
            variants.extend(coop(g));
            variants.retain(|variant| variant.check(g.caps()).is_ok());
            let variant = variants[d[11] % variants.len()];
            let variant = Variant { splits: if variant.splits == 1 { 1 + d[11] / 3 % 4 } else { 1 }, ..variant };
            check(g, variant, p, seed % 2 == 0, 100 + seed);
        }
    });
}

/// A product of f16 operands has the bits of the product of the same numbers in f32, because it rounds those to f16.
/// Rows are multiples of 8 elements, of 4, and of neither, with gaps of NaN between them.
#[test]
fn operands_in_f16_give_the_bits_of_those_in_f32() {
    each_tier(|g| {
        let mixed = |path| Variant { path, splits: 1, precision: Precision::Mixed };
        let others = [mixed(Route::Direct(8, 8)), mixed(Route::Tiled(64, 64)), mixed(Route::Tiled(128, 64))];
        let cases = [Form::Nt, Form::Nn, Form::Tn].into_iter().flat_map(|form| {
            [(form, 72, 136, 40, 8), (form, 132, 68, 100, 4), (form, 65, 37, 33, 1), (form, 8, 8, 200, 8)]
        });
        for (i, (form, m, n, k, unit)) in some(cases).enumerate() {
            let mut p = Gemm::dense(form, 2, m, n, k);
            (p.lda, p.ldb) = (p.lda + unit, p.ldb + 2 * unit);
            (p.a_stride, p.b_stride) = (size(&p, false).0 * p.lda, size(&p, true).0 * p.ldb);
            let mut random = Random::new(40 + i as u64);
            let mut operand = |second: bool, ld: usize| {
                let (rows, cols) = size(&p, second);
                let values = random.normal(p.batch * rows * ld);
                let held =
                    |(at, v): (usize, f32)| if at % ld < cols { half::f16::from_f32(v).to_f32() } else { f32::NAN };
                values.into_iter().enumerate().map(held).collect::<Vec<f32>>()
            };
            let (a, b) = (operand(false, p.lda), operand(true, p.ldb));
            // one case for each of the others, because they load all rows of f16 in the same way
            let variants = (unit == 4).then_some(others[form as usize]).into_iter();
            for variant in variants.chain(coop(g).into_iter().filter(|variant| variant.splits == 1)) {
                let product = |a16: bool, b16: bool| -> Result<Vec<f32>> {
                    let (a, b) = (Tensor::from_slice(g, &[a.len()], &a)?, Tensor::from_slice(g, &[b.len()], &b)?);
                    let c = Tensor::scratch("c", &[2, m, n]);
                    at_once(g, |r| {
                        let a = if a16 { a.to_dtype(r, DType::F16)? } else { a.clone() };
                        let b = if b16 { b.to_dtype(r, DType::F16)? } else { b.clone() };
                        gemm_with(r, variant, &p, &a, &b, Added::default(), &c)
                    });
                    c.to_vec(g)
                };
                let want = product(false, false).unwrap();
                assert!(want.iter().all(|v| v.is_finite()), "{variant:?} {p:?} reads the gaps");
                for (a16, b16) in [(true, false), (false, true), (true, true)] {
                    assert!(product(a16, b16).unwrap() == want, "{variant:?} {p:?}: a in f16: {a16}, b: {b16}");
                }
            }
        }
    });
}

#[test]
fn gemm_of_many_rows_and_of_a_long_sum() {
    each_tier(|g| {
        let tall = Gemm::dense(Form::Nt, 1, 70_001, 3, 2);
        check(g, pick(g.caps(), Precision::F32, &tall), tall, true, 1);
        check(g, TILED, Gemm::dense(Form::Nn, 1, 70_001, 3, 2), false, 2);
        // dw of a small layer, (44, 12), over 128 images of 196 tokens
        let p = Gemm::dense(Form::Tn, 1, 44, 12, 25_088);
        for variant in [DIRECT, pick(&Caps::portable(), Precision::F32, &p)].into_iter().chain(coop(g)) {
            check(g, variant, p, false, 3);
        }
    });
}

#[test]
fn split_sums_repeat_bit_for_bit() {
    each_tier(|g| {
        let p = Gemm::dense(Form::Tn, 1, 44, 20, 3000);
        let mut random = Random::new(5);
        let (a, b) = (random.normal(p.m * p.k), random.normal(p.n * p.k));
        let product = || -> Result<Vec<f32>> {
            let (a, b) = (Tensor::from_slice(g, &[a.len()], &a)?, Tensor::from_slice(g, &[b.len()], &b)?);
            let c = Tensor::scratch("c", &[p.m, p.n]);
            at_once(g, |r| gemm_with(r, f32(Route::Tiled(64, 64), 7), &p, &a, &b, Added::default(), &c));
            c.to_vec(g)
        };
        assert_eq!(product().unwrap(), product().unwrap());
    });
}

/// dw and dbias of one launch, or of two where a product rounds its operands, because sums are of unrounded numbers.
#[test]
fn products_with_sums_match_cpu() {
    each_tier(|g| {
        let exact = [Route::Direct(8, 8), Route::Direct(16, 8), Route::Tiled(64, 64), Route::Tiled(128, 64)];
        let exact = exact.map(|path| Variant { path, splits: 1, precision: Precision::F32 });
        let split = Variant { splits: 3, ..exact[2] };
        let rounding = Variant { precision: Precision::Mixed, ..exact[2] };
        let variants = exact.into_iter().chain([Variant { splits: 2, ..exact[0] }, split, rounding]);
        let variants: Vec<Variant> = variants.collect();
        // 1, primes, past one tile, and multiples of 4, which are loaded four at a time
        let shapes = [(1, 1, 1, 1), (2, 67, 131, 77), (1, 132, 68, 900), (3, 20, 4, 45), (1, 8, 260, 1601)];
        for (i, (batch, m, n, k)) in shapes.into_iter().enumerate() {
            let p = Gemm::dense(Form::Tn, batch, m, n, k);
            let mut random = Random::new(i as u64);
            let (a, b) = (random.normal(batch * m * k), random.normal(batch * n * k));
            let column = |at: usize| -> f64 { (0..k).map(|row| f64::from(a[(at / m * k + row) * m + at % m])).sum() };
            let want: Vec<f64> = (0..batch * m).map(column).collect();
            let mut first: Option<Vec<f32>> = None;
            for &variant in some(&variants) {
                let product = |r: &mut Recorder, sums: Option<&Tensor>, c: &Tensor| -> Result<()> {
                    let (a, b) = (Tensor::from_slice(g, &[a.len()], &a)?, Tensor::from_slice(g, &[b.len()], &b)?);
                    match sums {
                        Some(sums) => gemm_and_sums_with(r, variant, &p, &a, &b, c, sums),
                        None => gemm_with(r, variant, &p, &a, &b, Added::default(), c),
                    }
                };
                let [with, without] = [0, 1].map(|_| Tensor::scratch("c", &[batch, m, n]));
                let sums = Tensor::scratch("sums", &[batch, m]);
                at_once(g, |r| {
                    product(r, None, &without)?;
                    product(r, Some(&sums), &with)
                });
                let name = format!("{variant:?} {p:?}");
                assert_eq!(with.to_vec(g).unwrap(), without.to_vec(g).unwrap(), "{name}: c");
                let sums = sums.to_vec(g).unwrap();
                close(&format!("{name}: sums"), &sums, &want, tol(k));
                if variant.precision == Precision::F32 && variant.splits == 1 {
                    let first = first.get_or_insert(sums.clone());
                    assert_eq!(&sums, first, "{name}: the same bits on every path");
                }
            }
        }
    });
}

#[test]
fn products_with_sums_name_what_does_not_fit() {
    let g = Gpu::dry(Caps::portable());
    let r = &mut Recorder::new(&g);
    let (x, sums) = (Tensor::input("x", &[12]), Tensor::scratch("sums", &[2]));
    let error = gemm_and_sums(r, &Gemm::dense(Form::Nn, 1, 3, 4, 3), &x, &x, &x, &sums).unwrap_err().to_string();
    assert!(error.starts_with("matmul: product with sums: got Gemm { form: Nn"), "{error}");
    assert!(error.ends_with("expected a dense one in the form Tn"), "{error}");
    let error = gemm_and_sums(r, &Gemm::dense(Form::Tn, 1, 3, 4, 3), &x, &x, &x, &sums).unwrap_err().to_string();
    assert_eq!(error, "matmul: sums: got [2], expected at least 3 elements");
}

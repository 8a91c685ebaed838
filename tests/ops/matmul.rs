use rowscan::Result;
use rowscan::cpu::matmul as cpu;
use rowscan::gpu::{Caps, Gpu, Precision, Tiers};
use rowscan::ops::matmul::{Added, Form, Gemm, MatmulOptions, Path, Variant, gemm_with, matmul, pick};
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

use super::at_once;
use crate::common::{Random, Tol, as_hardware, close, each_tier, leaf, run, some, wide};

/// A sum of k products of unit variance is about √k; each of its k roundings is at most u = 6e-8 of the partial sum, so
/// the error wanders by u/√3·√(1 + … + k) ≈ 2.4e-8·k. Eight times that, and one rounding of the result and the
/// epilogue.
fn tol(k: usize) -> Tol {
    Tol { rel: 2e-7, abs: 2e-7 * (4.0 + k as f64) }
}

const DIRECT: Variant = f32(Path::Direct, 1);
const TILED: Variant = f32(Path::Tiled(64, 64), 1);

const fn f32(path: Path, splits: usize) -> Variant {
    Variant { path, splits, precision: Precision::F32 }
}

/// What a variant may be off by: [`tol`], of operands that are rounded exactly as the oracle's are. Cooperative
/// matrices may truncate their sums, which drifts where rounding wanders: four times as much. Split operands miss 2⁻²¹
/// of each of k products of unit variance, √k·2⁻²¹ together, five times that.
fn tol_of(variant: Variant, k: usize) -> Tol {
    let Tol { rel, abs } = tol(k);
    match (variant.path, variant.precision) {
        (Path::Coop(_), Precision::High) => Tol { rel: 1e-6, abs: 4.0 * abs + 2.4e-6 * (k as f64).sqrt() },
        (Path::Coop(_), _) => Tol { rel: 4.0 * rel, abs: 4.0 * abs },
        _ => Tol { rel, abs },
    }
}

/// The operand as a variant reads it.
fn rounded(variant: Variant, value: f32) -> f64 {
    let halved = variant.precision == Precision::Mixed;
    if halved { half::f16::from_f32(value).to_f64() } else { f64::from(value) }
}

/// What cooperative matrices can compute, where the adapter has them.
fn coop(g: &Gpu) -> Vec<Variant> {
    let coop = |side, splits, precision| Variant { path: Path::Coop(side), splits, precision };
    let (mixed, high) = (Precision::Mixed, Precision::High);
    let all = [coop(64, 1, mixed), coop(64, 3, mixed), coop(128, 1, mixed), coop(64, 1, high), coop(64, 2, high)];
    if g.caps().tiers.coop { all.into() } else { Vec::new() }
}

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
        // drivers may round what is subnormal in f16 to zero
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
    let attempt = || -> Result<Vec<f32>> {
        let tensor = |v: &[f32]| Tensor::from_slice(g, &[v.len()], v);
        let (a, b, bias, residual) = (tensor(&a)?, tensor(&b)?, tensor(&bias)?, tensor(&residual)?);
        let c = tensor(&vec![-7.0; c_len])?;
        let (bias, residual) = (epilogue.then_some(&bias), epilogue.then_some(&residual));
        at_once(g, |r| gemm_with(r, variant, &p, &a, &b, Added { bias, residual }, &c));
        c.to_vec(g)
    };
    let got = attempt().unwrap_or_else(|e| panic!("{e}"));
    let dims = cpu::Dims { s: p.batch, m: p.m, n: p.n, k: p.k };
    let (bias, inner) = (wide(&bias), wide(&dense(&residual)));
    let want = cpu::forward(dims, &a_flat, &b_flat, epilogue.then_some(&bias), epilogue.then_some(&inner));
    close(&format!("{variant:?} {p:?}"), &dense(&got), &want, tol_of(variant, p.k));
    let untouched = got.iter().filter(|&&v| v == -7.0).count();
    assert_eq!(untouched, c_len - p.batch * p.m * p.n, "elements between the rows of c");
}

/// Added to the product: this residual.
fn onto(residual: &Var) -> MatmulOptions<'_> {
    MatmulOptions { residual: Some(residual), ..MatmulOptions::default() }
}

/// Added to the product: a bias and a residual.
fn both<'a>(bias: &'a Var, residual: &'a Var) -> MatmulOptions<'a> {
    MatmulOptions { bias: Some(bias), ..onto(residual) }
}

#[test]
fn gemm_matches_cpu_in_every_form_and_variant() {
    let shapes = [(1, 1, 1), (7, 5, 3), (64, 64, 16), (67, 129, 37), (128, 72, 100), (1, 192, 20), (65, 1, 68)];
    each_tier(|g| {
        let mixed = |path, splits| Variant { precision: Precision::Mixed, ..f32(path, splits) };
        let mut variants = vec![DIRECT, TILED, f32(Path::Tiled(64, 64), 3), f32(Path::Tiled(128, 64), 1)];
        variants.extend([f32(Path::Tiled(64, 128), 2), f32(Path::Tiled(128, 128), 1)]);
        variants.extend([mixed(Path::Direct, 1), mixed(Path::Tiled(64, 64), 2)]);
        variants.extend(coop(g));
        variants.retain(|variant| variant.check(g.caps()).is_ok());
        for form in [Form::Nt, Form::Nn, Form::Tn] {
            for (m, n, k) in some(shapes) {
                for (i, &variant) in variants.iter().enumerate() {
                    check(g, variant, Gemm::dense(form, 1, m, n, k), i % 2 == 0, 1);
                    check(g, variant, Gemm::dense(form, 3, m, n, k), i % 2 == 1, 2);
                }
            }
        }
    });
}

/// Ties to even, numbers below f16's normal ones, its largest, what passes it and what is no number: as IEEE 754 has
/// it.
#[test]
fn without_matrices_mixed_rounds_operands_to_the_nearest_f16() {
    let edges = [0.1, 1.000_488_3, 1.001_464_8, 6.0e-5, 2.5e-6, 2.98e-8, 2.99e-8, 65504.0, 65519.9, 65520.0, 1e9];
    let signed = edges.iter().flat_map(|&v: &f32| [v, -v]);
    let values: Vec<f32> = signed.chain([0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]).collect();
    let want: Vec<f32> = values.iter().map(|&v| half::f16::from_f32(v).to_f32()).collect();
    each_tier(|g| {
        for path in [Path::Direct, Path::Tiled(64, 64)] {
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
            // half of the shapes are of multiples of 4, which are loaded as vec4
            let round = |v: usize| if d[0].is_multiple_of(2) { v.next_multiple_of(4) } else { v };
            let mut p = Gemm::dense(form, 1 + d[1] % 3, 1 + d[2] % 150, round(1 + d[3] % 150), round(1 + d[4] % 90));
            p.m = if form == Form::Tn { round(p.m) } else { p.m };
            (p.lda, p.ldb, p.ldc) =
                (size(&p, false).1 + round(d[5] % 9), size(&p, true).1 + round(d[6] % 9), p.n + d[7] % 5);
            p.a_stride = size(&p, false).0 * p.lda + round(d[8] % 9);
            p.b_stride = size(&p, true).0 * p.ldb + round(d[9] % 9);
            p.c_stride = p.m * p.ldc + d[10] % 7;
            let mut variants = vec![DIRECT, TILED, f32(Path::Tiled(128, 64), 1), f32(Path::Tiled(64, 128), 1)];
            variants.push(f32(Path::Tiled(128, 128), 1));
            variants.extend(coop(g));
            variants.retain(|variant| variant.check(g.caps()).is_ok());
            let variant = variants[d[11] % variants.len()];
            let variant = Variant { splits: if variant.splits == 1 { 1 + d[11] / 3 % 4 } else { 1 }, ..variant };
            check(g, variant, p, seed % 2 == 0, 100 + seed);
        }
    });
}

#[test]
fn gemm_of_many_rows_and_of_a_long_sum() {
    each_tier(|g| {
        check(
            g,
            pick(g.caps(), Precision::F32, &Gemm::dense(Form::Nt, 1, 70_001, 3, 2)),
            Gemm::dense(Form::Nt, 1, 70_001, 3, 2),
            true,
            1,
        );
        check(g, TILED, Gemm::dense(Form::Nn, 1, 70_001, 3, 2), false, 2);
        // the gradient of a narrow weight over 128 images
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
            at_once(g, |r| gemm_with(r, f32(Path::Tiled(64, 64), 7), &p, &a, &b, Added::default(), &c));
            c.to_vec(g)
        };
        assert_eq!(product().unwrap(), product().unwrap());
    });
}

/// A choice among them must not change a result.
#[test]
fn every_path_makes_the_same_bits() {
    let Some(g) = as_hardware() else { return };
    let mut random = Random::new(23);
    for (form, m, n, k, splits) in [
        (Form::Nt, 150, 136, 77, 1),
        (Form::Nn, 70, 260, 64, 1),
        (Form::Tn, 129, 44, 500, 1),
        (Form::Tn, 60, 68, 900, 4),
    ] {
        let p = Gemm::dense(form, 1, m, n, k);
        let (a, b) = (random.normal(m * k), random.normal(n * k));
        for precision in [Precision::F32, Precision::Mixed, Precision::High] {
            let product = |path| -> Result<Vec<f32>> {
                let (a, b) = (Tensor::from_slice(&g, &[a.len()], &a)?, Tensor::from_slice(&g, &[b.len()], &b)?);
                let c = Tensor::scratch("c", &[m, n]);
                at_once(&g, |r| gemm_with(r, Variant { path, splits, precision }, &p, &a, &b, Added::default(), &c));
                c.to_vec(&g)
            };
            let paths = Path::candidates(g.caps(), precision);
            let coop = g.caps().tiers.coop && precision != Precision::F32;
            let widest = g.caps().workgroup_memory >= 16 * 16 * (32 + 32 + 2);
            let expected = match precision {
                _ if !coop => 4 + usize::from(widest),
                Precision::Mixed => 2,
                _ => 1,
            };
            assert_eq!(paths.len(), expected, "{paths:?}");
            let first = product(paths[0]).unwrap();
            for path in &paths[1..] {
                assert!(product(*path).unwrap() == first, "{path:?} and {:?}, {p:?}, {precision}", paths[0]);
            }
        }
    }
}

/// Measured once, then known; with another path the same bits.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn tuning_measures_each_class_once_and_changes_no_bit() {
    use rowscan::ops::matmul::{gemm, tune};
    let Some(g) = as_hardware() else { return };
    let mut random = Random::new(29);
    let (x, w, dy) = (random.normal(70 * 40), random.normal(36 * 40), random.normal(70 * 36));
    let leaves = [leaf(&g, &[70, 40], &x), leaf(&g, &[36, 40], &w)];
    let step = || run(&g, &leaves, &dy, |r, v| matmul(r, &v[0], &v[1], MatmulOptions::default()));
    let before = step();
    let record = |rows: usize| {
        let p = Gemm::dense(Form::Nt, 1, rows, 36, 40);
        let tensor = |n: usize| Tensor::input("operand", &[n]);
        let c = tensor(rows * 36);
        let mut r = Recorder::new(&g);
        gemm(&mut r, &p, &tensor(rows * 40), &tensor(36 * 40), Added::default(), &c).unwrap();
        r.finish()
    };
    assert_eq!(tune(&g, record(70).launches(), Precision::F32).unwrap(), 1);
    assert_eq!(tune(&g, record(70).launches(), Precision::F32).unwrap(), 0, "known");
    assert_eq!(tune(&g, record(100).launches(), Precision::F32).unwrap(), 0, "of the same class");
    assert_eq!(tune(&g, record(200).launches(), Precision::F32).unwrap(), 1, "of another");
    assert_eq!(step(), before);
    let software = crate::common::gpu().unwrap();
    if software.caps().software {
        assert_eq!(tune(software, record(70).launches(), Precision::F32).unwrap(), 0, "a CPU adapter is not measured");
    }
}

#[test]
fn pick_fills_a_gpu_and_spares_a_cpu_the_barriers() {
    let gpu = Caps::portable();
    let cpu = Caps { software: true, ..Caps::portable() };
    for (m, n, k) in [(192, 44, 25_088), (384, 192, 12_544), (12, 384, 12_544), (1536, 384, 12_544)] {
        let p = Gemm::dense(Form::Tn, 1, m, n, k);
        let picked = pick(&gpu, Precision::F32, &p);
        let workgroups = m.div_ceil(64) * n.div_ceil(64) * picked.splits;
        assert!(workgroups >= 256 && picked.path == Path::Tiled(64, 64), "{p:?}: {workgroups}");
        assert_eq!(pick(&cpu, Precision::F32, &p), DIRECT);
    }
    assert_eq!(pick(&gpu, Precision::F32, &Gemm::dense(Form::Nt, 1, 12_544, 384, 192)), TILED);
}

#[test]
fn pick_takes_cooperative_matrices_for_what_they_can_hold() {
    let tiers = Tiers { coop: true, ..Tiers::default() };
    let gpu = Caps { tiers, fragment: 16, subgroup_sizes: (32, 32), ..Caps::portable() };
    let (large, small) = (Gemm::dense(Form::Nt, 1, 25_088, 768, 384), Gemm::dense(Form::Tn, 1, 192, 44, 25_088));
    let path = |caps: &Caps, precision, p: &Gemm| pick(caps, precision, p).path;
    assert_eq!(path(&gpu, Precision::F32, &large), Path::Tiled(64, 64));
    assert_eq!(path(&gpu, Precision::Mixed, &large), Path::Coop(128));
    assert_eq!(path(&gpu, Precision::High, &large), Path::Coop(64));
    assert_eq!(path(&gpu, Precision::Mixed, &small), Path::Coop(64));
    assert!(pick(&gpu, Precision::Mixed, &small).splits > 64, "a long k in parts");
    for caps in [Caps::portable(), Caps { software: true, ..gpu.clone() }] {
        for precision in [Precision::Mixed, Precision::High] {
            assert!(!matches!(path(&caps, precision, &large), Path::Coop(_)), "{caps}");
        }
    }
    // what an adapter cannot do is refused, not replaced
    let g = Gpu::dry(Caps::portable());
    let operand = Tensor::input("operand", &[64 * 64]);
    let variant = Variant { path: Path::Coop(64), splits: 1, precision: Precision::Mixed };
    let p = Gemm::dense(Form::Nt, 1, 64, 64, 64);
    let c = Tensor::input("c", &[64 * 64]);
    let launched = gemm_with(&mut Recorder::new(&g), variant, &p, &operand, &operand, Added::default(), &c);
    assert!(launched.unwrap_err().to_string().contains("cooperative matrices"));
}

/// The layer in mixed precision, backward included: what is not a product is exact f32 as ever.
#[test]
fn matmul_in_mixed_precision_rounds_every_operand_once() {
    each_tier(|g| {
        let (m, n, k) = (37, 24, 20);
        let mut random = Random::new(21);
        let (x, w, dy) = (random.normal(m * k), random.normal(n * k), random.normal(m * n));
        let leaves = [leaf(g, &[m, k], &x), leaf(g, &[n, k], &w)];
        let halves = |v: &[f32]| v.iter().map(|&v| half::f16::from_f32(v).to_f64()).collect::<Vec<_>>();
        let dim = cpu::Dims { s: 1, m, n, k };
        let want = cpu::backward(dim, &halves(&x), &halves(&w), &halves(&dy));
        // forward in one precision, backward in another
        let product = |forward, backward| {
            run(g, &leaves, &dy, |r, v| {
                r.set_precision(forward);
                let y = matmul(r, &v[0], &v[1], MatmulOptions::default());
                r.set_precision(backward);
                y
            })
        };
        let (y, grads) = product(Precision::Mixed, Precision::Mixed);
        close("y", &y, &cpu::forward(dim, &halves(&x), &halves(&w), None, None), tol(k));
        close("dx", &grads[0], &want.dx, tol(n));
        close("dw", &grads[1], &want.dw, tol(m));
        assert_eq!(Recorder::new(g).precision(), Precision::F32, "the precision is each recorder's own");
        let (exact, exact_grads) = run(g, &leaves, &dy, |r, v| matmul(r, &v[0], &v[1], MatmulOptions::default()));
        assert!(exact != y && exact_grads != grads, "f32 sees more of the operands");
        let changed = product(Precision::Mixed, Precision::F32);
        assert!(changed == (y, exact_grads), "a precision is that of the launches that follow");
    });
}

#[test]
fn matmul_matches_cpu() {
    each_tier(|g| {
        for (s, m, n, k) in [(1, 1, 1, 1), (1, 7, 5, 3), (3, 13, 8, 12), (1, 257, 44, 64), (2, 131, 67, 65)] {
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

            let (y, grads) = run(g, &leaves, &dy, |r, v| matmul(r, &v[0], &v[1], both(&v[2], &v[3])));
            close("y", &y, &cpu::forward(dim, &wx, &ww, Some(&wide(&bias)), Some(&wide(&residual))), tol(k));
            close("dx", &grads[0], &want.dx, tol(n));
            close("dw", &grads[1], &want.dw, tol(m));
            close("dbias", &grads[2], &want.dbias, tol(m));
            close("dresidual", &grads[3], &wdy, Tol { rel: 0.0, abs: 0.0 }); // the same tensor

            let (y, grads) = run(g, &leaves[..2], &dy, |r, v| matmul(r, &v[0], &v[1], MatmulOptions::default()));
            close("y", &y, &cpu::forward(dim, &wx, &ww, None, None), tol(k));
            close("dx", &grads[0], &want.dx, tol(n));
            close("dw", &grads[1], &want.dw, tol(m));

            // a constant x: no gradient, and the weight's is what it was
            let (_, grads) = run(g, &leaves[1..2], &dy, |r, v| {
                matmul(r, &Var::constant(leaves[0].data.clone()), &v[0], MatmulOptions::default())
            });
            close("dw of constant x", &grads[0], &want.dw, tol(m));
        }
    });
}

/// y = x·wᵀ + x twice over, with one w: every gradient has several contributions, and x is its own residual.
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
            let h = matmul(r, &v[0], &v[1], onto(&v[0]))?;
            matmul(r, &h, &v[1], onto(&v[0]))
        });
        close("y", &got, &y, tol(2 * n));
        close("dx", &grads[0], &dx, tol(2 * n));
        close("dw", &grads[1], &plus(&first.dw, &second.dw), tol(4 * m));
    });
}

/// Parameters and gradients that are ranges of arenas, x among them: nothing outside of a range is written.
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
            let second = matmul(&mut r, &x, &w, onto(&first))?;
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

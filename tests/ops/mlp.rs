use half::f16;
use rowscan::cpu::activation::Activation;
use rowscan::cpu::mlp as cpu;
use rowscan::cpu::mlp::Dims;
use rowscan::gpu::{Gpu, Precision};
use rowscan::ops::activation;
use rowscan::ops::matmul::{Act, Added, Epilogue, Form, Gemm, MatmulOptions, Route, Variant, gemm, gemm_with, matmul};
use rowscan::ops::mlp::{MlpLayer, MlpOptions, mlp};
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, as_hardware, at_once, close, each_tier, leaf, run, some, wide};
use rowscan::nn::stored;

/// One case. `values` are x, w₁, b₁, w₂, b₂ and the residual.
struct Case {
    dim: Dims,
    values: [Vec<f32>; 6],
    dy: Vec<f32>,
}

impl Case {
    fn new(dim: Dims, seed: u64) -> Self {
        let (mut random, Dims { m, k, h, n }) = (Random::new(seed), dim);
        // weights scaled by 1/√fan_in: activations stay near 1, so one tolerance does for all layers
        let mut normal = |len: usize, scale: f32| random.normal(len).into_iter().map(|v| v * scale).collect::<Vec<_>>();
        let (first, second) = ((k as f32).powf(-0.5), (h as f32).powf(-0.5));
        let values = [
            normal(m * k, 1.0),
            normal(h * k, first),
            normal(h, 1.0),
            normal(n * h, second),
            normal(n, 1.0),
            normal(m * n, 1.0),
        ];
        Self { dim, values, dy: normal(m * n, 1.0) }
    }
    fn leaves(&self, g: &Gpu) -> Vec<Var> {
        let Dims { m, k, h, n } = self.dim;
        let shapes = [&[1, m, k][..], &[h, k], &[h], &[n, h], &[n], &[1, m, n]];
        shapes.iter().zip(&self.values).map(|(shape, values)| leaf(g, shape, values)).collect()
    }
    fn run(&self, g: &Gpu, act: Act, precision: Precision) -> (Vec<f32>, Vec<Vec<f32>>) {
        run(g, &self.leaves(g), &self.dy, |r, v| {
            r.set_precision(precision);
            let (first, second) = (MlpLayer { w: &v[1], bias: Some(&v[2]) }, MlpLayer { w: &v[3], bias: Some(&v[4]) });
            let options = MlpOptions { residual: Some(&v[5]), hidden: stored(r, self.dim.h), ..MlpOptions::act(act) };
            mlp(r, &v[0], first, second, options)
        })
    }
    /// y and the gradients of `values`, from the oracle.
    fn want(&self, act: Act) -> (Vec<f64>, [Vec<f64>; 6]) {
        let act = if act == Act::Gelu { Activation::Gelu } else { Activation::Silu };
        let [x, w1, b1, w2, b2, residual] = self.values.each_ref().map(|v| wide(v));
        let (first, second) = ((&w1[..], Some(&b1[..])), (&w2[..], Some(&b2[..])));
        let y = cpu::forward(self.dim, act, &x, first, second, Some(&residual));
        let (d1, d2) = cpu::backward(self.dim, act, &x, first, second, &wide(&self.dy));
        (y, [d1.dx, d1.dw, d1.dbias, d2.dw, d2.dbias, wide(&self.dy)])
    }
    fn check(&self, what: &str, (y, grads): (Vec<f32>, Vec<Vec<f32>>), act: Act, tol: Tol) {
        let (want, wants) = self.want(act);
        close(&format!("{what} y"), &y, &want, tol);
        for (i, name) in ["dx", "dw1", "db1", "dw2", "db2", "dresidual"].iter().enumerate() {
            close(&format!("{what} {name}"), &grads[i], &wants[i], tol);
        }
    }
}

/// Tolerance in f32. The error of a sum of `longest` products of order 1 is a random walk of size 2.4e-8·longest
/// (tests/ops/matmul/mod.rs); eight times that. The activation adds a few ulp of an exponential.
fn tol(dim: Dims) -> Tol {
    let longest = dim.m.max(dim.k).max(dim.h).max(dim.n);
    Tol { rel: 4e-6, abs: 2e-6 + 2e-7 * (4.0 + longest as f64) }
}

fn dims() -> impl Iterator<Item = Dims> {
    let shapes = [(1, 1, 1, 1), (7, 5, 3, 2), (37, 12, 20, 9), (70, 64, 68, 36), (129, 20, 72, 65)];
    shapes.into_iter().map(|(m, k, h, n)| Dims { m, k, h, n })
}

#[test]
fn mlp_matches_cpu() {
    each_tier(|g| {
        for (i, dim) in dims().enumerate() {
            let case = Case::new(dim, i as u64);
            for act in [Act::Gelu, Act::Silu] {
                case.check(&format!("{act:?} {dim:?}"), case.run(g, act, Precision::F32), act, tol(dim));
            }
        }
    });
}

/// The variants of a GPU: tiles, sums split along k, and cooperative matrices if the adapter has them. In mixed
/// precision a product of order 1 is off by 2⁻¹¹ and a sum of M of them, as in dw, by √M·2⁻¹¹; the worst of some
/// thousands is off by four times that. In y and dx the weights of 1/√K cancel the growth, but three products follow
/// each other: 3e-3.
#[test]
fn mlp_matches_cpu_with_the_variants_for_gpus() {
    let Some(g) = as_hardware() else { return };
    for (i, dim) in some(dims().chain([Dims { m: 700, k: 40, h: 24, n: 12 }]).enumerate()) {
        let case = Case::new(dim, 10 + i as u64);
        let run = |precision| case.run(&g, Act::Gelu, precision);
        case.check(&format!("f32 {dim:?}"), run(Precision::F32), Act::Gelu, tol(dim));
        let abs = 3e-3 + 2e-3 * (dim.m as f64).sqrt();
        case.check(&format!("mixed {dim:?}"), run(Precision::Mixed), Act::Gelu, Tol { rel: 2e-3, abs });
    }
}

/// `mlp` gives the results of matmul, GELU and matmul in fewer launches. In mixed precision it stores the hidden layer
/// as f16. y, dw₂ and db₂ stay the same, because the next product rounds the hidden layer anyway; dx, dw₁ and db₁
/// change, because the slope of GELU is taken at the rounded value. Sums have the same order in both. On the software
/// adapter results are equal to the bit; on other adapters the compiler may contract a·b + c differently, which changes
/// a few roundings.
#[test]
fn mlp_is_what_its_parts_make() {
    each_tier(|g| {
        let case = Case::new(Dims { m: 33, k: 24, h: 40, n: 20 }, 3);
        let parts = |precision| {
            run(g, &case.leaves(g), &case.dy, |r, v| {
                r.set_precision(precision);
                let h = matmul(r, &v[0], &v[1], MatmulOptions { bias: Some(&v[2]), ..MatmulOptions::default() })?;
                let h = activation::gelu(r, &h)?;
                matmul(
                    r,
                    &h,
                    &v[3],
                    MatmulOptions { bias: Some(&v[4]), residual: Some(&v[5]), ..MatmulOptions::default() },
                )
            })
        };
        let same = |what: &str, got: &[f32], want: &[f32], rel: f64| {
            if g.caps().software {
                assert!(got == want, "{what}");
            }
            close(what, got, &wide(want), Tol { rel, abs: 40.0 * rel });
        };
        let both = |precision| (case.run(g, Act::Gelu, precision), parts(precision));
        let ((y, grads), (parts_y, parts_grads)) = both(Precision::F32);
        same("y", &y, &parts_y, 1e-6);
        grads.iter().zip(&parts_grads).enumerate().for_each(|(i, (got, want))| same(&format!("{i}"), got, want, 1e-6));
        let ((y, grads), (parts_y, parts_grads)) = both(Precision::Mixed);
        // a different last bit in f32 may be rounded to the other neighbor in f16
        same("mixed y", &y, &parts_y, 1e-3);
        let second = grads.iter().zip(&parts_grads).enumerate().skip(3);
        second.for_each(|(i, (got, want))| same(&format!("mixed {i}"), got, want, 1e-3));
        assert!(grads[0] != parts_grads[0], "the slope is taken at the rounded value");
    });
}

/// A recorder for inference does not keep the hidden layer for a backward pass. y has the same bits.
#[test]
fn mlp_keeps_nothing_without_a_tape() {
    each_tier(|g| {
        let case = Case::new(Dims { m: 9, k: 8, h: 12, n: 4 }, 4);
        let leaves = case.leaves(g);
        let forward = |mut r: Recorder| {
            let v = &leaves;
            let (first, second) = (MlpLayer { w: &v[1], bias: Some(&v[2]) }, MlpLayer { w: &v[3], bias: Some(&v[4]) });
            let y =
                mlp(&mut r, &v[0], first, second, MlpOptions { residual: Some(&v[5]), ..MlpOptions::act(Act::Gelu) })
                    .unwrap();
            r.run().unwrap();
            y.data.to_vec(g).unwrap()
        };
        assert_eq!(forward(Recorder::inference(g)), forward(Recorder::new(g)));
    });
}

/// The fused activation, and the fused slope of its gradient, in every variant. The gaps between rows of c hold −7,
/// which must stay.
#[test]
fn epilogues_of_every_variant() {
    let Some(g) = as_hardware() else { return };
    for (seed, splits) in some([(1, 1), (2, 3)]) {
        let (m, n, k, ldc) = (70, 37, 140, 40);
        let mut random = Random::new(seed);
        let (a, b) = (random.normal(m * k), random.normal(n * k));
        let (bias, at) = (random.normal(n), (m * ldc).next_multiple_of(64));
        let before = random.normal(m * ldc);
        for precision in [Precision::F32, Precision::Mixed] {
            for path in some(Route::candidates(g.caps(), precision)) {
                let variant = Variant { path, splits, precision };
                let read = |v: &[f32]| -> Vec<f64> {
                    let read =
                        |&v: &f32| if precision == Precision::Mixed { f16::from_f32(v).to_f64() } else { v.into() };
                    v.iter().map(read).collect()
                };
                let dim = rowscan::cpu::matmul::Dims { s: 1, m, n, k };
                let plain = rowscan::cpu::matmul::forward(dim, &read(&a), &read(&b), None, None);
                let tensor = |v: &[f32]| Tensor::from_slice(&g, &[v.len()], v).unwrap();
                let product = |epilogue, bias: Option<&[f32]>, len: usize| {
                    let p = Gemm { ldc, epilogue, ..Gemm::dense(Form::Nt, 1, m, n, k) };
                    let c = tensor(&vec![-7.0; len]);
                    let (bias, inner) = (bias.map(tensor), tensor(&before));
                    let residual = matches!(epilogue, Epilogue::Slope(_)).then_some(&inner);
                    let (a, b) = (tensor(&a), tensor(&b));
                    at_once(&g, |r| gemm_with(r, variant, &p, &a, &b, Added { bias: bias.as_ref(), residual }, &c));
                    c.to_vec(&g).unwrap()
                };
                // sums of 140 products of unit variance, perhaps truncated; the slope of GELU reaches 1.13
                let tol = Tol { rel: 4e-6, abs: 1.2e-4 };
                for (act, oracle) in some([(Act::Gelu, Activation::Gelu), (Act::Silu, Activation::Silu)]) {
                    let biased: Vec<f64> = plain.iter().enumerate().map(|(i, v)| v + f64::from(bias[i % n])).collect();
                    let want = rowscan::cpu::activation::forward(oracle, &biased);
                    let rows = |v: &[f32]| -> Vec<f32> { v.chunks(ldc).flat_map(|row| &row[..n]).copied().collect() };
                    let got = product(Epilogue::Activate(act, at), Some(&bias), at + m * ldc);
                    close(&format!("{variant:?} v"), &rows(&got[..m * ldc]), &biased, tol);
                    close(&format!("{variant:?} {act:?}"), &rows(&got[at..]), &want, tol);
                    assert_eq!(got.iter().filter(|&&v| v == -7.0).count(), got.len() - 2 * m * n);
                    let got = product(Epilogue::Slope(act), None, m * ldc);
                    let at: Vec<f64> = rows(&before).iter().map(|&v| v.into()).collect();
                    let want = rowscan::cpu::activation::backward(oracle, &at, &plain);
                    close(&format!("{variant:?} {act:?}'"), &rows(&got), &want, tol);
                }
            }
        }
    }
}

#[test]
fn misuse_names_the_argument() {
    let g = crate::common::gpu().unwrap();
    let leaf = |shape: &[usize]| leaf(g, shape, &vec![0.0; shape.iter().product()]);
    let (x, w1, w2, bias) = (leaf(&[3, 4]), leaf(&[5, 4]), leaf(&[2, 5]), leaf(&[5]));
    let call = |x: &Var, w1: &Var, w2: &Var, b2: Option<&Var>, residual: Option<&Var>| {
        let (first, second) = (MlpLayer { w: w1, bias: Some(&bias) }, MlpLayer { w: w2, bias: b2 });
        let options = MlpOptions { residual, ..MlpOptions::act(Act::Gelu) };
        mlp(&mut Recorder::new(g), x, first, second, options).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(call(&x, &w1, &w2, None, None), Ok(()));
    for (what, result) in [
        ("mlp: x", call(&leaf(&[3, 5]), &w1, &w2, None, None)),
        ("mlp: second.w", call(&x, &w1, &leaf(&[2, 4]), None, None)),
        ("mlp: second.bias", call(&x, &w1, &w2, Some(&bias), None)),
        ("mlp: residual", call(&x, &w1, &w2, None, Some(&leaf(&[3, 3])))),
    ] {
        assert!(result.as_ref().is_err_and(|e| e.contains(what)), "{what}: {result:?}");
    }
    let r = &mut Recorder::new(g);
    let in_f16 = Tensor::scratch_of(rowscan::gpu::DType::F16, "c", &[9]);
    let p = Gemm::dense(Form::Nt, 1, 3, 3, 4);
    let refused = gemm(r, &p, &Tensor::scratch("a", &[12]), &Tensor::scratch("b", &[12]), Added::default(), &in_f16);
    assert!(refused.unwrap_err().to_string().contains("c in f16"));
    let refused = in_f16.fill(r, 0.0).unwrap_err().to_string();
    assert!(refused.contains("tensor.fill") && refused.contains("f16"), "{refused}");
    let (a, c) = (Tensor::scratch("a", &[12]), Tensor::scratch("c", &[9]));
    let mut gemm = |epilogue| {
        let p = Gemm { epilogue, ..Gemm::dense(Form::Nt, 1, 3, 3, 4) };
        gemm(r, &p, &a, &a, Added::default(), &c).unwrap_err().to_string()
    };
    assert!(gemm(Epilogue::Slope(Act::Gelu)).contains("residual"));
    assert!(gemm(Epilogue::Activate(Act::Gelu, 64)).contains("c, activated"));
}

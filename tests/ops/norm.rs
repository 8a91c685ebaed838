use std::cell::RefCell;

use rowscan::cpu::norm::{Dims, Weights, backward, forward};
use rowscan::gpu::{Caps, DType, Gpu};
use rowscan::ops;
use rowscan::ops::norm::{NormOptions, layer_norm, rms_norm};
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;
use rowscan::{Error, Result};

use crate::common::{Random, Tol, close, each_choice, gpu, leaf, round_to_f16, run, stored_as, to_f32, wide};

/// The sizes of one case, and which operands it has.
struct Case {
    b: usize,
    l: usize,
    d: usize,
    residual: bool,
    drop_path: bool,
    /// Whether the two results, y and the new residual `sum`, get gradients.
    dy: bool,
    dsum: bool,
}

impl Case {
    const fn new(b: usize, l: usize, d: usize, residual: bool, drop_path: bool) -> Self {
        Self { b, l, d, residual, drop_path, dy: true, dsum: true }
    }
    fn dims(&self) -> Dims {
        Dims { rows: self.b * self.l, l: self.l, d: self.d }
    }
    /// Cases for y as f16. Columns come in multiples of 4, which f16 rows must have; an invocation gets an odd or an
    /// even number of such quads.
    fn in_f16() -> Vec<Self> {
        let cases =
            [(1, 1, 4, true, true), (2, 9, 260, true, true), (3, 11, 384, false, false), (2, 2, 3072, true, false)];
        let mut all: Vec<_> =
            cases.map(|(b, l, d, residual, drop_path)| Self::new(b, l, d, residual, drop_path)).into();
        all.push(Self { dy: false, ..Self::new(2, 3, 8, true, false) });
        all
    }
    /// Shapes past one workgroup and past one row of the grid, and every combination of absent operands and gradients.
    fn all() -> Vec<Self> {
        let mut all = vec![
            Self::new(1, 1, 1, true, true),
            Self::new(1, 3, 1031, true, true),
            Self::new(2, 2, 3072, true, false),
            Self::new(3, 11, 384, false, false),
            Self::new(71, 463, 3, true, true), // 32 873 rows: more than a grid row holds
            Self { dsum: false, ..Self::new(2, 3, 7, true, true) },
            Self { dsum: false, ..Self::new(2, 3, 7, true, false) },
            Self { dsum: false, ..Self::new(2, 3, 7, false, false) },
            Self { dy: false, ..Self::new(2, 3, 7, true, true) },
            Self { dy: false, ..Self::new(2, 3, 7, true, false) },
        ];
        let mut random = Random::new(99);
        for _ in 0..10 {
            let n = random.below(5, 1 << 16).iter().map(|n| *n as usize).collect::<Vec<_>>();
            all.push(Self::new(1 + n[0] % 5, 1 + n[1] % 40, 1 + n[2] % 96, n[3] % 2 == 0, n[4] % 3 > 0));
        }
        all
    }
}

/// The values of one case. A gradient that is absent is 0.
struct Values {
    x: Vec<f32>,
    residual: Vec<f32>,
    drop_path: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
    dsum: Vec<f32>,
}

impl Values {
    /// Columns are at least 0.5 and at most −0.5 in turn: the inverse of a tiny deviation would magnify f32 rounding.
    fn new(case: &Case) -> Self {
        let mut random = Random::new((case.b * 31 + case.l * 7 + case.d) as u64);
        let n = case.b * case.l * case.d;
        let spread =
            |v: Vec<f32>| v.iter().enumerate().map(|(i, v)| if i % 2 == 0 { 0.5 + v } else { -0.5 - v }).collect();
        let some = |on: bool, v: Vec<f32>| if on { v } else { vec![0.0; v.len()] };
        Self {
            x: spread(random.uniform(n, 0.0, 2.0)),
            residual: spread(random.uniform(n, 0.0, 1.0)),
            drop_path: (0..case.b).map(|b| [1.25, 0.0, 2.0][b % 3]).collect(),
            w: random.uniform(case.d, 0.5, 1.5),
            bias: random.normal(case.d),
            dy: some(case.dy, random.normal(n)),
            dsum: some(case.dsum, random.normal(n)),
        }
    }
}

/// The results of a norm.
struct Found {
    y: Vec<f32>,
    sum: Vec<f32>,
    /// Gradients of x, the weights and, if there is one, the residual.
    grads: Vec<Vec<f32>>,
}

type Norm<'a> = &'a dyn Fn(&mut Recorder, &Var, Option<&Var>, Option<&Tensor>, &[Var]) -> Result<(Var, Var)>;

/// Runs `norm`. The gradients of its results y and sum are `v.dy` and `v.dsum`.
fn run_norm(g: &Gpu, case: &Case, v: &Values, weights: &[&[f32]], norm: Norm) -> Found {
    let shape = [case.b, case.l, case.d];
    let tensor = |values: &[f32]| Tensor::from_slice(g, &shape, values).expect("tensor");
    // in a model the factors of DropPath are a range of a larger table
    let table = [&vec![f32::NAN; 64], v.drop_path.as_slice()].concat();
    let table = Tensor::from_slice(g, &[table.len()], &table).expect("table");
    let drop_path = case.drop_path.then(|| table.range(64, &[case.b]).expect("range"));
    let mut leaves = vec![leaf(g, &shape, &v.x)];
    leaves.extend(weights.iter().map(|w| leaf(g, &[case.d], w)));
    leaves.push(leaf(g, &shape, &v.residual));
    let sum = RefCell::new(None);
    let (y, mut grads) = run(g, &leaves, &v.dy, |r, inner| {
        let residual = case.residual.then(|| &inner[leaves.len() - 1]);
        let (y, total) = norm(r, &inner[0], residual, drop_path.as_ref(), &inner[1..leaves.len() - 1])?;
        sum.replace(Some(total.data.clone()));
        // reads both results and, in its rule, gives each its gradient
        let out = Tensor::scratch("out", &shape);
        out.copy_from(r, &y.data)?;
        let (dy, dsum) = (case.dy.then(|| tensor(&v.dy)), case.dsum.then(|| tensor(&v.dsum)));
        Ok(r.push((&y, &total), out, move |r, (y, total), _, grads| {
            dsum.map_or(Ok(()), |dsum| grads.add(r, &total, dsum))?;
            dy.map_or(Ok(()), |dy| grads.add(r, &y, dy))
        }))
    });
    if !case.residual {
        assert!(grads.pop().is_some_and(|grad| grad.is_empty()), "a gradient of a residual that is absent");
    }
    let sum = sum.take().expect("the operator ran").to_vec(g).expect("sum");
    Found { y, sum, grads }
}

const EPS: f32 = 1e-5;

#[test]
fn rms_norm_matches_cpu() {
    each_choice(|g| {
        let stored = Case::in_f16().into_iter().map(|case| (case, true));
        for (case, f16) in Case::all().into_iter().map(|case| (case, false)).chain(stored) {
            let mut v = Values::new(&case);
            if f16 {
                round_to_f16(&mut v.dy);
            }
            let found = run_norm(g, &case, &v, &[&v.w], &|r, x, residual, drop_path, w| {
                let options = NormOptions { eps: EPS, residual, drop_path, dtype: DType::f16_if(f16) };
                let (y, sum) = rms_norm(r, x, &w[0], options)?;
                Ok((if f16 { to_f32(r, &y)? } else { y }, sum))
            });
            let (dim, eps) = (case.dims(), f64::from(EPS));
            let (residual, drop_path) = (wide(&v.residual), wide(&v.drop_path));
            let (residual, drop_path) =
                (case.residual.then_some(&residual[..]), case.drop_path.then_some(&drop_path[..]));
            let w = wide(&v.w);
            let weights = Weights { w: &w, b: None };
            let want = forward(dim, &wide(&v.x), residual, drop_path, weights, eps);
            let back = backward(dim, &want.sum, drop_path, weights, eps, &wide(&v.dy), Some(&wide(&v.dsum)));
            let name = |what| format!("{what} ({}, {}, {})", case.b, case.l, case.d);
            // sum: a product and an addition. y: five roundings and those of a tree sum over the row; storage as f16
            // rounds by 2⁻¹¹ = 4.9e-4
            close(&name("sum"), &found.sum, &want.sum, Tol { rel: 2e-7, abs: 2e-7 });
            close(&name("y"), &found.y, &want.y, Tol { rel: if f16 { 4.9e-4 } else { 2e-6 }, abs: 1e-6 });
            // dx: differences of numbers up to 5, times 1/rms < 3, times the factor of DropPath
            let tol = Tol { rel: 4e-6, abs: 4e-6 };
            close(&name("dx"), &found.grads[0], &back.dx, tol);
            // dw: a random walk over the rows, √rows roundings of partial sums of about √rows
            let rows = Tol { rel: 4e-6, abs: tol.abs + if dim.rows < 1000 { 0.0 } else { 4e-4 } };
            close(&name("dw"), &found.grads[1], &back.dw, rows);
            if case.residual {
                close(&name("dresidual"), &found.grads[2], &back.dresidual, tol);
            }
        }
    });
}

/// A chain of norms with a residual, as in Mamba: one launch per norm forward, and two backward, of which the second
/// adds the shares of dw. Adding up the gradients of the residual takes no launch of its own.
#[test]
fn a_chain_of_norms_takes_three_launches_each() {
    let g = Gpu::dry(Caps::portable());
    let x = Var::leaf(Tensor::input("x", &[2, 5, 8]));
    let ws: Vec<Var> = (0..3).map(|_| Var::leaf(Tensor::input("w", &[8]))).collect();
    let recorded = Recorder::new(&g).record(|r| {
        let (mut hidden, mut residual) = (x.clone(), None);
        for w in &ws {
            let (y, sum) =
                rms_norm(r, &hidden, w, NormOptions { residual: residual.as_ref(), ..NormOptions::eps(EPS) })?;
            (hidden, residual) = (ops::activation::silu(r, &y)?, Some(sum));
        }
        r.backward_from(&hidden, Tensor::input("seed", &[2, 5, 8]), Grads::default())
    });
    let (recording, grads) = recorded.unwrap_or_else(|e| panic!("{e}"));
    let count = |family: &str| recording.launches().iter().filter(|l| l.name().starts_with(family)).count();
    assert_eq!((count("norm."), count("parts."), count("activation."), count("tensor.")), (6, 3, 6, 0));
    assert!(grads.get(&x).is_some());
}

#[test]
fn rms_norm_without_residual_returns_its_input() {
    let Some(g) = gpu() else { return };
    let (x, w) = (leaf(g, &[4, 3], &[1.0; 12]), leaf(g, &[3], &[1.0; 3]));
    let r = &mut Recorder::new(g);
    let (_, sum) = rms_norm(r, &x, &w, NormOptions::eps(EPS)).unwrap();
    assert_eq!(sum.id(), x.id());
    let drop_path = Tensor::from_slice(g, &[3], &[1.0; 3]).unwrap();
    let error = rms_norm(r, &x, &w, NormOptions { drop_path: Some(&drop_path), ..NormOptions::eps(EPS) }).unwrap_err();
    assert!(matches!(&error, Error::Argument { what, .. } if what == "rms_norm: drop_path"), "{error}");
    let error = rms_norm(r, &x, &w, NormOptions { residual: Some(&w), ..NormOptions::eps(EPS) }).unwrap_err();
    assert!(matches!(&error, Error::Argument { what, .. } if what == "rms_norm: residual"), "{error}");
    let (odd, w) = (leaf(g, &[2, 3], &[0.0; 6]), leaf(g, &[3], &[0.0; 3]));
    let error = rms_norm(r, &odd, &w, NormOptions { dtype: DType::F16, ..NormOptions::eps(EPS) }).unwrap_err();
    assert!(matches!(&error, Error::Argument { what, .. } if what == "rms_norm: columns in f16"), "{error}");
    let half = Var::leaf(Tensor::scratch_of(DType::F16, "x", &[4, 2]));
    let (w, residual) = (leaf(g, &[2], &[0.0; 2]), leaf(g, &[4, 2], &[0.0; 8]));
    let error = rms_norm(r, &half, &w, NormOptions { residual: Some(&residual), ..NormOptions::eps(EPS) }).unwrap_err();
    assert!(matches!(&error, Error::Argument { what, .. } if what == "rms_norm: x"), "{error}");
}

#[test]
fn rms_norm_skips_what_nobody_wants() {
    let g = Gpu::dry(Caps::portable());
    let tensor = |shape: &[usize]| Tensor::input("constant", shape);
    let count = |x: Var, w: Var| {
        let recorded = Recorder::new(&g).record(|r| {
            let (y, _) = rms_norm(r, &x, &w, NormOptions::eps(EPS))?;
            r.backward_from(&y, tensor(&[5, 8]), Grads::default())
        });
        recorded.unwrap_or_else(|e| panic!("{e}")).0.launches().len()
    };
    let (x, w) = (tensor(&[5, 8]), tensor(&[8]));
    assert_eq!(count(Var::constant(x.clone()), Var::constant(w.clone())), 1);
    assert_eq!(count(Var::leaf(x.clone()), Var::constant(w.clone())), 2);
    assert_eq!(count(Var::leaf(x), Var::leaf(w)), 3);
}

#[test]
fn layer_norm_matches_cpu() {
    each_choice(|g| {
        let mut cases: Vec<_> = Case::all().into_iter().map(|case| (case, 0.0, false)).collect();
        cases.push((Case::new(2, 5, 96, false, false), 300.0, false)); // a mean far larger than the deviation
        cases.extend(Case::in_f16().into_iter().map(|case| (case, 0.0, true)));
        for (case, mean, f16) in cases {
            let mut v = Values::new(&case);
            if f16 {
                round_to_f16(&mut v.dy);
            }
            v.x.iter_mut().for_each(|x| *x += mean);
            let found = run_norm(g, &case, &v, &[&v.w, &v.bias], &|r, x, residual, drop_path, w| {
                let options = NormOptions { eps: EPS, residual, drop_path, dtype: DType::f16_if(f16) };
                let (y, sum) = layer_norm(r, x, &w[0], &w[1], options)?;
                Ok((if f16 { to_f32(r, &y)? } else { y }, sum))
            });
            let (dim, eps) = (case.dims(), f64::from(EPS));
            let (residual, drop_path) = (wide(&v.residual), wide(&v.drop_path));
            let (residual, drop_path) =
                (case.residual.then_some(&residual[..]), case.drop_path.then_some(&drop_path[..]));
            let (w, bias) = (wide(&v.w), wide(&v.bias));
            let weights = Weights { w: &w, b: Some(&bias) };
            let want = forward(dim, &wide(&v.x), residual, drop_path, weights, eps);
            let back = backward(dim, &want.sum, drop_path, weights, eps, &wide(&v.dy), Some(&wide(&v.dsum)));
            let name = |what| format!("{what} ({}, {}, {})", case.b, case.l, case.d);
            // sum: a product and an addition
            close(&name("sum"), &found.sum, &want.sum, Tol { rel: 2e-7, abs: 2e-7 });
            // 1/σ is up to 3, so y and dx see about ten roundings of numbers up to 10, or of `mean` if that is larger.
            // In a row of one column 1/σ is 1/√eps = 316, but x minus the mean of x is exactly 0.
            let tol = Tol { rel: 4e-6, abs: 6e-6 + 2e-7 * f64::from(mean) };
            // storage as f16 rounds by 2⁻¹¹ = 4.9e-4
            close(&name("y"), &found.y, &want.y, Tol { rel: if f16 { 4.9e-4 } else { tol.rel }, ..tol });
            close(&name("dx"), &found.grads[0], &back.dx, tol);
            // dw: a random walk over the rows, √rows roundings of partial sums of about √rows
            let rows = Tol { rel: 4e-6, abs: tol.abs + if dim.rows < 1000 { 0.0 } else { 4e-4 } };
            close(&name("dw"), &found.grads[1], &back.dw, rows);
            close(&name("db"), &found.grads[2], &back.db, rows);
            if case.residual {
                close(&name("dresidual"), &found.grads[3], &back.dresidual, tol);
            }
        }
    });
}

/// x in f16, as behind a convolution, and y in f16 or, for a residual stream, in f32. The sum is x.
#[test]
fn norms_of_maps_in_f16_match_cpu() {
    each_choice(|g| {
        for ((b, l, d), half) in [((1, 1, 4), false), ((2, 9, 260), false), ((3, 11, 384), true), ((71, 463, 4), false)]
        {
            let case = Case::new(b, l, d, false, false);
            let mut v = Values::new(&case);
            [&mut v.x, &mut v.dy, &mut v.dsum].into_iter().for_each(|v| round_to_f16(v));
            for layer in [false, true] {
                let weights: &[&[f32]] = if layer { &[&v.w, &v.bias] } else { &[&v.w] };
                let found = run_norm(g, &case, &v, weights, &|r, x, _, _, w| {
                    let x = stored_as(r, x, DType::F16)?;
                    let options = NormOptions { dtype: DType::f16_if(half), ..NormOptions::eps(EPS) };
                    let (y, sum) = match layer {
                        true => layer_norm(r, &x, &w[0], &w[1], options)?,
                        false => rms_norm(r, &x, &w[0], options)?,
                    };
                    assert_eq!((y.data.is_f16(), sum.id()), (half, x.id()));
                    Ok((stored_as(r, &y, DType::F32)?, stored_as(r, &sum, DType::F32)?))
                });
                let (dim, eps, w, bias) = (case.dims(), f64::from(EPS), wide(&v.w), wide(&v.bias));
                let weights = Weights { w: &w, b: layer.then_some(&bias) };
                let want = forward(dim, &wide(&v.x), None, None, weights, eps);
                let back = backward(dim, &want.sum, None, weights, eps, &wide(&v.dy), Some(&wide(&v.dsum)));
                let name = |what| format!("{what} ({b}, {l}, {d}), layer {layer}");
                // those of the norms in f32, above, and where a result is f16 its rounding
                let tol = Tol { rel: 4e-6, abs: 6e-6 };
                close(&name("y"), &found.y, &want.y, tol.or_f16(half));
                close(&name("dx"), &found.grads[0], &back.dx, tol.or_f16(true));
                let rows = Tol { rel: 4e-6, abs: tol.abs + if dim.rows < 1000 { 0.0 } else { 4e-4 } };
                close(&name("dw"), &found.grads[1], &back.dw, rows);
                if layer {
                    close(&name("db"), &found.grads[2], &back.db, rows);
                }
            }
        }
    });
}

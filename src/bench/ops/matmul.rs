//! matmul: the projections of a Mamba mixer, and qkv of attention. Backward computes dx, dw and, with a bias, dbias.

use crate::bench::ops::*;
use crate::tensor::Tensor;
use cpu::matmul::{Dims, backward, forward};
use ops::matmul::{Added, Form, Gemm, MatmulOptions, Route, Variant, gemm_with, matmul};

/// SSM states per channel (mamba_ssm's d_state).
const N: usize = 16;

fn expect(v: &Values, s: usize, bias: bool, precision: Precision) -> Result<Vec<Want>> {
    let [x, w, dy] = [v.get("x")?, v.get("w")?, v.get("dy")?].map(|values| rounded(values, precision));
    let (x, w, dy) = (&x[..], &w[..], &dy[..]);
    let m = v.picked.len();
    let k = x.len() / (s * m);
    let dim = Dims { s, m, n: w.len() / (s * k), k };
    let back = backward(dim, x, w, dy);
    let tol = |k| of_products(precision, k);
    let y = forward(dim, x, w, bias.then(|| v.get("bias")).transpose()?, None);
    let mut wants = vec![want("y", y, tol(k)), want("dx", back.dx, tol(dim.n)), want("dw", back.dw, tol(m))];
    if bias {
        let dy = v.get("dy")?; // not rounded: dbias is a sum, no product
        let column = |i: usize| (0..m).map(|row| dy[(i / dim.n * m + row) * dim.n + i % dim.n]).sum();
        wants.push(want("dbias", (0..s * dim.n).map(column).collect(), tol(m)));
    }
    Ok(wants)
}

/// A square product on one path, for the list `tried` in `shaders/matmul.wgsl`.
fn path(c: &mut Cases, name: &str, path: Route) {
    let n = if c.scope.quick { 512 } else { 4096 };
    let (variant, product) =
        (Variant { path, splits: 1, precision: Precision::F32 }, Gemm::dense(Form::Nt, 1, n, n, n));
    let case = c.case(format!("{name} {n}")).floor(Floor::of(12 * n * n, 2 * n * n * n, 0));
    case.check(16, "rows", move |v| {
        let (x, w) = (v.get("x")?, v.get("w")?);
        let dim = Dims { s: 1, m: x.len() / n, n, k: n };
        Ok(vec![want("y", forward(dim, x, w, None, None), of_products(Precision::F32, n))])
    })
    .launches(move |r, x| {
        let (a, b) = (x.normal("x", Axis(0), &[n, n])?, x.normal("w", Whole, &[n, n])?);
        let y = Tensor::scratch("y", &[n, n]);
        gemm_with(r, variant, &product, &a, &b, Added::default(), &y)?;
        Ok(vec![result("y", Axis(0), y)])
    });
}

/// A batch of `s` products: x (m, k) times the transpose of w (n, k).
fn case(c: &mut Cases, name: String, [s, m, n, k]: [usize; 4], bias: bool, timed: bool) {
    let (mk, nk, mn) = (s * m * k, s * n * k, s * m * n);
    let precision = c.scope.precision;
    let mut draft = c.case(name).fact("bias", bias).fact("batch", s);
    if timed {
        let forward = Floor::of(4 * (mk + nk + mn), 2 * mn * k, 0);
        let backward = Floor::of(4 * (2 * mk + 2 * nk + mn), 4 * mn * k, 0);
        draft = draft.floors([forward, backward]);
    }
    draft.check(16, "rows", move |v| expect(v, s, bias, precision)).op(move |r, x| {
        let dense = usize::from(s == 1); // 1: shapes without the batch dimension
        let rows = Axis(1 - dense);
        let (x_shape, w_shape, b_shape) = ([s, m, k], [s, n, k], [s, n]);
        let (input, w) = (x.leaf("x", rows, &x_shape[dense..])?, x.leaf("w", Whole, &w_shape[dense..])?);
        let bias = bias.then(|| x.leaf("bias", Whole, &b_shape[dense..])).transpose()?;
        Ok(vec![out(
            "y",
            rows,
            matmul(r, &input, &w, MatmulOptions { bias: bias.as_ref(), ..MatmulOptions::default() })?,
        )])
    });
}

pub fn cases(c: &mut Cases) {
    case(c, "small".into(), [1, 16, 72, 100], true, false);
    case(c, "split small".into(), [2, 301, 17, 23], false, false);
    if c.scope.precision == Precision::F32 {
        let tiles = [("64x64", 64, 64), ("128x64", 128, 64), ("64x128", 64, 128), ("128x128", 128, 128)];
        for (name, m, n) in [("8x8", 8, 8), ("16x4", 16, 4), ("16x8", 16, 8)] {
            path(c, &format!("direct {name}"), Route::Direct(m, n));
        }
        tiles.into_iter().for_each(|(name, m, n)| path(c, &format!("tiled {name}"), Route::Tiled(m, n)));
    }
    for shape in c.scope.shapes() {
        let (m, d, e, r) = (shape.rows(), shape.d, shape.e(), shape.d.div_ceil(16));
        // name, directions, outputs, inputs, bias
        let projections = [
            ("in_proj", 1, 2 * e, d, false),
            ("x_proj", 2, r + 2 * N, e, false),
            ("dt_proj", 2, e, r, false),
            ("out_proj", 1, d, e, false),
            ("qkv", 1, 3 * d, d, true),
        ];
        for (name, s, n, k, bias) in projections {
            case(c, format!("{name} {shape}"), [s, m, n, k], bias, true);
        }
    }
}

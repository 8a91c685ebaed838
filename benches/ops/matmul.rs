//! matmul: the projections of a mixer and of an MLP; backward makes dx, dw and where there is a bias its gradient.

use rowscan::cpu::matmul::{Dims, backward, forward};

use super::*;

/// States of a channel.
const N: usize = 16;

fn validate(g: &Gpu) {
    let dim = Dims { s: 1, m: 131, n: 72, k: 100 };
    let mut random = Random::new(1);
    let (x, w) = (random.normal(dim.m * dim.k), random.normal(dim.n * dim.k));
    let (bias, dy) = (random.normal(dim.n), random.normal(dim.m * dim.n));
    let leaves = [leaf(g, &[dim.m, dim.k], &x), leaf(g, &[dim.n, dim.k], &w), leaf(g, &[dim.n], &bias)];
    let (y, grads) = run(g, &leaves, &dy, |g, t, v| ops::matmul::matmul(g, t, &v[0], &v[1], Some(&v[2]), None));
    let (x, w) = (wide(&x), wide(&w));
    let want = backward(dim, &x, &w, &wide(&dy));
    // a sum of k products of order 1 wanders by 2.4e-8·k; eight times that
    let tol = |k: usize| Tol { rel: 2e-7, abs: 2e-7 * (4.0 + k as f64) };
    close("y", &y, &forward(dim, &x, &w, Some(&wide(&bias)), None), tol(dim.k));
    close("dx", &grads[0], &want.dx, tol(dim.n));
    close("dw", &grads[1], &want.dw, tol(dim.m));
    close("dbias", &grads[2], &want.dbias, tol(dim.m));
}

pub fn bench(b: &mut Bench) {
    b.family("matmul", validate);
    for s in b.shapes() {
        let (d, e, r) = (s.d, s.e(), s.d.div_ceil(16));
        // name, directions, inputs, outputs, bias
        let projections = [
            ("in_proj", 1, d, 2 * e, false),
            ("x_proj", 2, e, r + 2 * N, false),
            ("dt_proj", 2, r, e, false),
            ("out_proj", 1, e, d, false),
            ("qkv", 1, d, 3 * d, true),
        ];
        for (name, batch, k, n, bias) in projections {
            let m = s.rows();
            let (mk, nk, mn) = (batch * m * k, batch * n * k, batch * m * n);
            let forward = Floor { bytes: 4 * (mk + nk + mn), flops: 2 * mn * k, exps: 0 };
            let backward = Floor { bytes: 4 * (2 * mk + 2 * nk + mn), flops: 4 * mn * k, exps: 0 };
            b.op(&format!("{name} {s}"), [forward, backward], |t, x| {
                let (x_shape, w_shape) = ([batch, m, k], [batch, n, k]);
                let dense = usize::from(batch == 1); // leaves out the first dimension
                let (input, w) = (x.leaf(&x_shape[dense..])?, x.leaf(&w_shape[dense..])?);
                let bias = bias.then(|| x.leaf(&[n])).transpose()?;
                Ok(vec![ops::matmul::matmul(x.g, t, &input, &w, bias.as_ref(), None)?])
            });
        }
    }
}

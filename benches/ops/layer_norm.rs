//! layer_norm: residual add with DropPath, then the norm, as in the decoder and the transformer blocks.

use rowscan::cpu::layer_norm::{Dims, backward, forward};

use super::*;

const EPS: f32 = 1e-5;

fn validate(g: &Gpu) {
    let dim = Dims { rows: 3 * 11, l: 11, d: 384 };
    let mut random = Random::new(1);
    let [x, r, dy] = [(); 3].map(|()| random.normal(dim.rows * dim.d));
    let (w, bias, keep) = (random.uniform(dim.d, 0.5, 1.5), random.normal(dim.d), [1.25, 0.0, 2.0]);
    let all = [(&x, &[3, 11, 384][..]), (&r, &[3, 11, 384]), (&w, &[384]), (&bias, &[384])];
    let factors = Tensor::from_slice(g, &[3], &keep).unwrap_or_else(|e| panic!("{e}"));
    let (y, grads) = run(g, &all.map(|(v, shape)| leaf(g, shape, v)), &dy, |g, t, v| {
        Ok(ops::layer_norm::layer_norm(g, t, &v[0], Some(&v[1]), Some(&factors), &v[2], &v[3], EPS)?.0)
    });
    let (keep, w, eps) = (wide(&keep), wide(&w), f64::from(EPS));
    let want = forward(dim, &wide(&x), Some(&wide(&r)), Some(&keep), &w, &wide(&bias), eps);
    let back = backward(dim, &want.sum, Some(&keep), &w, eps, &wide(&dy), None);
    // a few roundings of numbers up to 5, and of sums over a row or over the rows
    let tol = Tol { rel: 4e-6, abs: 8e-6 };
    close("y", &y, &want.y, tol);
    close("dx", &grads[0], &back.dx, tol);
    close("dresidual", &grads[1], &back.dresidual, tol);
    close("dw", &grads[2], &back.dw, tol);
    close("db", &grads[3], &back.dbias, tol);
}

pub fn bench(b: &mut Bench) {
    b.family("layer_norm", validate);
    for s in b.shapes() {
        let shape = [s.b, s.l, s.d];
        // forward: reads x and residual, writes sum and y; backward: reads sum, dy and dsum, writes dx and dresidual
        let floors = [16, 20].map(|bytes| Floor::bytes(bytes * s.rows() * s.d));
        b.op(&s.to_string(), floors, |t, x| {
            let (v, r, keep) = (x.leaf(&shape)?, x.leaf(&shape)?, x.uniform(&[s.b])?);
            let (w, bias) = (x.leaf(&[s.d])?, x.leaf(&[s.d])?);
            let (y, sum) = ops::layer_norm::layer_norm(x.g, t, &v, Some(&r), Some(&keep), &w, &bias, EPS)?;
            Ok(vec![y, sum])
        });
    }
}

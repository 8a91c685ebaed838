//! conv1d: both directions of the mixer's four-tap convolution with SiLU.

use rowscan::cpu::conv1d::{Dims, backward, forward};

use super::*;

const S: usize = 2;
const K: usize = 4;

fn validate(g: &Gpu) {
    let dim = Dims { s: S, b: 2, l: 67, e: 67, k: K, ldx: 134 };
    let Dims { b, l, e, .. } = dim;
    let mut random = Random::new(1);
    let (xz, w, bias) = (random.normal(b * l * 2 * e), random.normal(S * e * K), random.normal(S * e));
    let du = random.normal(S * b * l * e);
    let leaves = [leaf(g, &[b, l, 2 * e], &xz), leaf(g, &[S, e, K], &w), leaf(g, &[S, e], &bias)];
    let (u, grads) = run(g, &leaves, &du, |g, t, v| ops::conv1d::conv1d(g, t, &v[0], &v[1], &v[2], S));
    let (xz, w, bias) = (wide(&xz), wide(&w), wide(&bias));
    let want = backward(dim, &xz, &w, &bias, &wide(&du));
    let dxz: Vec<f64> = want.dx.chunks(e).flat_map(|dx| [dx.to_vec(), vec![0.0; e]].concat()).collect();
    // eight products of size 1, then SiLU; sums of B·L terms of random sign
    let (tol, sums) = (Tol { rel: 4e-6, abs: 1e-5 }, Tol { rel: 1e-5, abs: 5e-5 });
    close("u", &u, &forward(dim, &xz, &w, &bias), tol);
    close("dxz", &grads[0], &dxz, tol);
    close("dw", &grads[1], &want.dw, sums);
    close("dbias", &grads[2], &want.dbias, sums);
}

pub fn bench(b: &mut Bench) {
    b.family("conv1d", validate);
    for s in b.shapes() {
        let (e, n) = (s.e(), s.rows() * s.e());
        let floor = |bytes, flops| Floor { bytes: bytes * n, flops: flops * n, exps: S * n };
        // backward computes c again, then dx and dw
        b.op(&s.to_string(), [floor(4 * (1 + S), 2 * K * S), floor(4 * (2 + S), 6 * K * S)], |t, x| {
            let (xz, w, bias) = (x.leaf(&[s.b, s.l, 2 * e])?, x.leaf(&[S, e, K])?, x.leaf(&[S, e])?);
            Ok(vec![ops::conv1d::conv1d(x.g, t, &xz, &w, &bias, S)?])
        });
    }
}

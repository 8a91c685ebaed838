//! selective_scan: both directions of the mixer's scan with 16 states, gated.

use rowscan::cpu::selective_scan::{Dims, Inputs, backward, forward};
use rowscan::ops::selective_scan::{Algorithm, Scan, chan_layout, selective_scan};

use super::*;

const S: usize = 2;
const N: usize = 16;

fn validate(g: &Gpu) {
    let dim = Dims { s: S, b: 2, l: 53, e: 67, n: N, r: 4 };
    let Dims { b, l, e, r, .. } = dim;
    let mut random = Random::new(1);
    let [u, delta, dout] = [S, S, 1].map(|s| random.normal(s * b * l * e));
    let (xdbl, xz) = (random.normal(S * b * l * (r + 2 * N)), random.normal(b * l * 2 * e));
    let at = chan_layout(S, e, N);
    let chan = random.uniform(at.len, -1.0, 1.0);
    let shapes = [&[S, b, l, e][..], &[S, b, l, e], &[S, b, l, r + 2 * N], &[at.len], &[b, l, 2 * e]];
    let [uw, deltaw, xdblw, chanw] = [&u, &delta, &xdbl, &chan].map(|v| wide(v));
    let z: Vec<f64> = xz.chunks(2 * e).flat_map(|row| wide(&row[e..])).collect();
    let part = |start: usize, len: usize| &chanw[start..start + len];
    let inputs = Inputs {
        u: &uw,
        delta: &deltaw,
        xdbl: &xdblw,
        a_log: part(at.a_log, S * e * N),
        d: Some(part(at.d, S * e)),
        delta_bias: Some(part(at.bias, S * e)),
        z: Some(&z),
        softplus: true,
    };
    let (want, back) = (forward(dim, &inputs), backward(dim, &inputs, &wide(&dout)));
    let dxz: Vec<f64> = back.dz.chunks(e).flat_map(|dz| [vec![0.0; e], dz.to_vec()].concat()).collect();
    for algorithm in [Algorithm::Sequential, Algorithm::Chunked] {
        let spec = Scan { algorithm: Some(algorithm), ..Scan::mamba(N) };
        let values = [&u, &delta, &xdbl, &chan, &xz];
        let leaves: Vec<Var> = values.iter().zip(shapes).map(|(v, shape)| leaf(g, shape, v)).collect();
        let (out, grads) =
            run(
                g,
                &leaves,
                &dout,
                |g, t, v| Ok(selective_scan(g, t, &v[0], &v[1], &v[2], &v[3], Some(&v[4]), spec)?.0),
            );
        // values of up to 100, one rounding per step and exp to a few ulp; decay forgets; dchan sums over B·L
        let tol = Tol { rel: 2e-5, abs: 2e-4 };
        close(&format!("{algorithm:?} out"), &out, &want.out, tol);
        let wants = [&back.du, &back.ddelta, &back.dxdbl, &back.da_log, &dxz];
        for (i, name) in ["du", "ddelta", "dxdbl", "dchan", "dxz"].into_iter().enumerate() {
            close(name, &grads[i][..if i == 3 { S * e * N } else { wants[i].len() }], wants[i], tol);
        }
    }
}

pub fn bench(b: &mut Bench) {
    b.family("selective_scan", validate);
    for s in b.shapes() {
        let (e, r, n) = (s.e(), s.d.div_ceil(16), s.rows() * s.e());
        let floor = |bytes, flops, exps| Floor { bytes: bytes * n, flops: flops * S * N * n, exps: exps * S * N * n };
        // per state and step: forward δA, δuB, h, y; backward h again, p, λ and the sums of du, ddelta, dB, dC, dA
        b.op(&s.to_string(), [floor(4 * (2 * S + 2), 6, 1), floor(16 * S + 8 + 16, 18, 2)], |t, x| {
            let (u, delta, xdbl) =
                (x.leaf(&[S, s.b, s.l, e])?, x.leaf(&[S, s.b, s.l, e])?, x.leaf(&[S, s.b, s.l, r + 2 * N])?);
            let (chan, xz) = (x.leaf(&[chan_layout(S, e, N).len])?, x.leaf(&[s.b, s.l, 2 * e])?);
            Ok(vec![selective_scan(x.g, t, &u, &delta, &xdbl, &chan, Some(&xz), Scan::mamba(N))?.0])
        });
    }
}

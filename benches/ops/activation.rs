//! activation: GELU of an MLP, SiLU of a gate, softplus of a step size, at the mixer's inner width.

use rowscan::cpu::activation::{Activation, backward, forward};
use rowscan::tape::Tape;

use super::*;

type Op = fn(&Gpu, &mut Tape, &Var) -> Result<Var>;
const ALL: [(&str, Activation, Op); 4] = [
    ("gelu", Activation::Gelu, ops::activation::gelu),
    ("gelu_tanh", Activation::GeluTanh, ops::activation::gelu_tanh),
    ("silu", Activation::Silu, ops::activation::silu),
    ("softplus", Activation::Softplus, ops::activation::softplus),
];

fn validate(g: &Gpu) {
    let mut random = Random::new(1);
    let (x, dy) = (random.uniform(5003, -8.0, 8.0), random.normal(5003));
    // exp and log are allowed a few ulp, more near zero
    let tol = Tol { rel: 4e-6, abs: 2e-6 };
    for (name, act, op) in ALL {
        let (y, grads) = run(g, &[leaf(g, &[x.len()], &x)], &dy, |g, t, v| op(g, t, &v[0]));
        close(name, &y, &forward(act, &wide(&x)), tol);
        close(name, &grads[0], &backward(act, &wide(&x), &wide(&dy)), tol);
    }
}

pub fn bench(b: &mut Bench) {
    b.family("activation", validate);
    for s in b.shapes() {
        let n = s.rows() * s.e();
        let floors = [8, 12].map(|bytes| Floor { bytes: bytes * n, flops: 0, exps: n });
        for (name, _, op) in ALL {
            b.op(&format!("{name} {s}"), floors, |t, x| Ok(vec![op(x.g, t, &x.leaf(&[s.b, s.l, s.e()])?)?]));
        }
    }
}

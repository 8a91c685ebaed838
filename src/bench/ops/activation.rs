//! activation: GELU and ReLU of an MLP, SiLU of a gate, softplus of a step size, at the mixer's inner width.

use crate::bench::ops::*;
use crate::tape::{Recorder, Var};
use cpu::activation::{Activation, backward, forward};

type Op = fn(&mut Recorder, &Var) -> Result<Var>;
const ALL: [(&str, Activation, Op); 5] = [
    ("gelu", Activation::Gelu, ops::activation::gelu),
    ("gelu_tanh", Activation::GeluTanh, ops::activation::gelu_tanh),
    ("silu", Activation::Silu, ops::activation::silu),
    ("softplus", Activation::Softplus, ops::activation::softplus),
    ("relu", Activation::Relu, ops::activation::relu),
];

fn expect(act: Activation, v: &Values, half: bool) -> Result<Vec<Want>> {
    let (x, dy) = (v.get("x")?, v.get("dy")?);
    // exp and log have errors of a few ulp, relatively more near zero
    let tol = Tol { rel: 4e-6, abs: 2e-6 }.or_f16(half);
    Ok(vec![want("y", forward(act, x), tol), want("dx", backward(act, x, dy), tol)])
}

pub fn cases(c: &mut Cases) {
    for s in c.scope.few() {
        let (n, half) = (s.rows() * s.e(), halved(c.scope, s.e()));
        let floors = [8, 12].map(|bytes| Floor::of(bytes * n / if half { 2 } else { 1 }, 0, n));
        for (name, act, op) in ALL {
            let case = c.case(format!("{name} {s}")).at(&s).fact("op", name).floors(floors);
            case.check(1, "images", move |v| expect(act, v, half)).op(move |r, x| {
                let v = x.leaf_in(half, "x", Axis(0), &[s.b, s.l, s.e()])?;
                Ok(vec![out("y", Axis(0), op(r, &v)?)])
            });
        }
    }
}

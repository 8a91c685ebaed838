//! scale: a token stream times a constant.

use rowscan::cpu::scale::{backward, forward};

use super::*;

fn validate(g: &Gpu) {
    let mut random = Random::new(1);
    let (a, dy) = (random.normal(5003), random.normal(5003));
    let (y, grads) = run(g, &[leaf(g, &[a.len()], &a)], &dy, |g, t, v| ops::scale::scale(g, t, &v[0], -0.75));
    let tol = Tol { rel: 6e-8, abs: 0.0 }; // one rounding
    close("y", &y, &forward(&wide(&a), -0.75), tol);
    close("da", &grads[0], &backward(-0.75, &wide(&dy)), tol);
}

pub fn bench(b: &mut Bench) {
    b.family("scale", validate);
    for s in b.shapes() {
        let floors = [Floor::bytes(8 * s.rows() * s.d); 2];
        b.op(&s.to_string(), floors, |t, x| Ok(vec![ops::scale::scale(x.g, t, &x.leaf(&[s.b, s.l, s.d])?, 0.5)?]));
    }
}

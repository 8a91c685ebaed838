//! add: the residual stream.

use rowscan::cpu::add::{backward, forward};

use super::*;

fn validate(g: &Gpu) {
    let mut random = Random::new(1);
    let [p, q, dy] = [(); 3].map(|()| random.normal(5003));
    let leaves = [leaf(g, &[p.len()], &p), leaf(g, &[q.len()], &q)];
    let (y, grads) = run(g, &leaves, &dy, |g, t, v| ops::add::add(g, t, &v[0], &v[1]));
    let (tol, want) = (Tol { rel: 6e-8, abs: 0.0 }, backward(&wide(&dy))); // one rounding
    close("y", &y, &forward(&wide(&p), &wide(&q)), tol);
    close("da", &grads[0], &want.da, tol);
    close("db", &grads[1], &want.db, tol);
}

pub fn bench(b: &mut Bench) {
    b.family("add", validate);
    for s in b.shapes() {
        let n = s.rows() * s.d;
        // backward: dy moves into one operand and is copied to the other
        let floors = [12, 8].map(|bytes| Floor::bytes(bytes * n));
        let shape = [s.b, s.l, s.d];
        b.op(&s.to_string(), floors, |t, x| Ok(vec![ops::add::add(x.g, t, &x.leaf(&shape)?, &x.leaf(&shape)?)?]));
    }
}

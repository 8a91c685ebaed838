//! modulate: the operators `modulate` and `gate` of an adaLN block of the diffusion head, at four noise levels of the
//! 98 hidden patches of an image.

use crate::bench::ops::*;
use cpu::modulate::{Dims, gate, gate_backward, modulate, modulate_backward};

const PARTS: usize = 3;
/// Rounding errors of a product and a sum of numbers up to 9.
const TOL: Tol = Tol { rel: 2e-7, abs: 2e-6 };

fn dims(v: &Values) -> Result<Dims> {
    let [rows, d] = v.shape("x")?;
    Ok(Dims { rows, d, parts: PARTS })
}

fn modulated(v: &Values) -> Result<Vec<Want>> {
    let (dim, x, m) = (dims(v)?, v.get("x")?, v.get("m")?);
    let (dx, dm) = modulate_backward(dim, x, m, v.get("dy")?);
    Ok(vec![want("y", modulate(dim, x, m), TOL), want("dx", dx, TOL), want("dm", dm, TOL)])
}

fn gated(v: &Values) -> Result<Vec<Want>> {
    let (dim, x, h, m, dy) = (dims(v)?, v.get("x")?, v.get("h")?, v.get("m")?, v.get("dy")?);
    let (dh, dm) = gate_backward(dim, h, m, dy);
    let dx = dy.to_vec();
    Ok(vec![want("y", gate(dim, x, h, m), TOL), want("dx", dx, TOL), want("dh", dh, TOL), want("dm", dm, TOL)])
}

pub fn cases(c: &mut Cases) {
    let (rows, d) = (4 * 98 * c.scope.batch(), if c.scope.quick { 256 } else { 1024 });
    let floors = [16, 16 + 4 * PARTS].map(|bytes| Floor::bytes(bytes * rows * d));
    c.case(format!("modulate {d}x{rows}")).floors(floors).check(64, "rows", modulated).op(move |r, x| {
        let (v, m) = (x.leaf("x", Axis(0), &[rows, d])?, x.leaf("m", Axis(0), &[rows, PARTS * d])?);
        Ok(vec![out("y", Axis(0), ops::modulate::modulate(r, &v, &m)?)])
    });
    c.case(format!("gate {d}x{rows}")).floors(floors).check(64, "rows", gated).op(move |r, x| {
        let (v, h) = (x.leaf("x", Axis(0), &[rows, d])?, x.leaf("h", Axis(0), &[rows, d])?);
        let m = x.leaf("m", Axis(0), &[rows, PARTS * d])?;
        Ok(vec![out("y", Axis(0), ops::modulate::gate(r, &v, &h, &m)?)])
    });
}

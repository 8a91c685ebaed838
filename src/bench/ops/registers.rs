//! registers: 12 register tokens inserted among 196 patch tokens, and extracted again.

use crate::bench::ops::*;
use cpu::registers as oracle;
use cpu::registers::Dims;
use ops::registers::{Places, extract, insert};

const L: usize = 196;
const N: usize = 12;

fn dims(b: usize, d: usize) -> Dims {
    let places = Places::even(L, N);
    Dims { b, l: L, n: N, d, first: places.first, step: places.step }
}

fn expect_insert(v: &Values, d: usize) -> Result<Vec<Want>> {
    let dim = dims(v.picked.len(), d);
    let (dx, dr) = oracle::insert_backward(dim, v.get("dy")?, true);
    let y = oracle::insert(dim, v.get("x")?, v.get("r")?);
    Ok(vec![want("y", y, Tol::EXACT), want("dx", dx, Tol::EXACT), near("dr", dr, 2e-6)]) // dr sums over B
}

fn expect_extract(v: &Values, d: usize) -> Result<Vec<Want>> {
    let dim = dims(v.picked.len(), d);
    let dx = oracle::extract_backward(dim, v.get("dy")?);
    Ok(vec![want("y", oracle::extract(dim, v.get("x")?), Tol::EXACT), want("dx", dx, Tol::EXACT)])
}

pub fn cases(c: &mut Cases) {
    let mut shapes: Vec<(&str, usize, usize)> = c.scope.few().iter().map(|s| (s.model, s.b, s.d)).collect();
    shapes.dedup();
    for (model, b, d) in shapes {
        let (tokens, registers) = (b * L * d, b * N * d);
        // backward: dx is copied, and dr is read and summed
        let case = c.case(format!("insert {model} {N}+{L}x{b}")).floors([Floor::bytes(8 * (tokens + registers)); 2]);
        case.check(2, "images", move |v| expect_insert(v, d)).op(move |r, x| {
            let (all, registers) = (x.leaf("x", Axis(0), &[b, L, d])?, x.leaf("r", Whole, &[1, N, d])?);
            Ok(vec![out("y", Axis(0), insert(r, &all, &registers, Places::even(L, N))?)])
        });
        let floors = [8 * registers, 4 * (tokens + 2 * registers)].map(Floor::bytes);
        let case = c.case(format!("extract {model} {N}of{}x{b}", L + N)).floors(floors);
        case.check(2, "images", move |v| expect_extract(v, d)).op(move |r, x| {
            let all = x.leaf("x", Axis(0), &[b, L + N, d])?;
            Ok(vec![out("y", Axis(0), extract(r, &all, Places::even(L, N))?)])
        });
    }
}

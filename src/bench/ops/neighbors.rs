//! neighbors: the centers of the patches of a cloud.

use crate::bench::ops::*;
use cpu::neighbors::{graph, nearest};
use ops::neighbors::neighbors;

/// Neighbors of a point.
const K: usize = 4;

fn expect(v: &Values) -> Result<Vec<Want>> {
    let [_, t, _] = v.shape("points")?;
    // whole numbers are read back as the floats with their bits
    let bits = |v: u32| f64::from(f32::from_bits(v));
    let of = |cloud: &[f64]| graph(t, &nearest(t, K, cloud)).into_iter().map(bits).collect::<Vec<f64>>();
    Ok(vec![want("graph", v.get("points")?.chunks(3 * t).flat_map(of).collect(), Tol::EXACT)])
}

pub fn cases(c: &mut Cases) {
    for (b, t, timed) in [(3, 17, false), (if c.scope.quick { 8 } else { 128 }, 128, true)] {
        let mut draft = c.case(format!("{K} of {t} points x{b}"));
        if timed {
            draft = draft.floor(Floor::of(12 * b * t + 4 * b * (2 * t * K + t + 1), 10 * b * t * t * K, 0));
        }
        draft.check(2, "clouds", expect).launches(move |r, fill| {
            let points = fill.normal("points", Axis(0), &[b, t, 3])?;
            Ok(vec![result("graph", Axis(0), neighbors(r, &points, K)?.graph)])
        });
    }
}

//! local_norm_pool: the centers of a cloud and their four nearest ones, as in Mamba3D.

use crate::bench::ops::*;
use crate::tensor::Tensor;
use cpu::local_norm_pool::{Dims, backward, forward};
use ops::local_norm_pool::{Neighbors, local_norm_pool};

/// Neighbors of a point.
const K: usize = 4;

/// Some neighbors, the point itself among them; as many have a point as their neighbor as it has neighbors.
fn index(t: usize, cloud: usize) -> Vec<u32> {
    (0..t * K).map(|i| ((i / K + (i % K) * (3 + cloud)) % t) as u32).collect()
}

fn expect(v: &Values) -> Result<Vec<Want>> {
    let ([b, t, c], picked) = (v.shape("x")?, v.picked.clone());
    let index: Vec<u32> = picked.iter().flat_map(|cloud| index(t, *cloud)).collect();
    let dim = Dims { b, t, k: K, c, per_cloud: true };
    let (x, alpha, beta, dy) = (v.get("x")?, v.get("alpha")?, v.get("beta")?, v.get("dy")?);
    let g = backward(dim, x, &index, alpha, beta, dy);
    // a quotient by a root of sums of all differences, and exponentials of it
    let mut wants = vec![near("y", forward(dim, x, &index, alpha, beta), 4e-6), near("dx", g.dx, 2e-5)];
    if picked.len() == v.samples {
        wants.extend([near("dalpha", g.dalpha, 1e-5), near("dbeta", g.dbeta, 1e-5)]);
    }
    Ok(wants)
}

pub fn cases(c: &mut Cases) {
    let clouds = if c.scope.quick { 4 } else { 32 };
    for (b, t, width, timed) in [(2, 9, c.scope.awkward(), false), (clouds, 128, 384, true)] {
        let (n, table) = (b * t * width, 4 * b * Neighbors::len(t, K));
        let mut draft = c.case(format!("{t} points of {width} x{b}"));
        if timed {
            let forward = Floor::of(20 * n + table, 13 * K * n, K * n);
            draft = draft.floors([forward, Floor::of(20 * n + table, 38 * K * n, 3 * K * n)]);
        }
        draft.check(2, "clouds", expect).op(move |r, fill| {
            let x = fill.leaf("x", Axis(0), &[b, t, width])?;
            let (alpha, beta) = (fill.leaf("alpha", Whole, &[2 * width])?, fill.leaf("beta", Whole, &[2 * width])?);
            let mut tables = Vec::new();
            for cloud in 0..b {
                tables.extend(Neighbors::table(&index(t, cloud), K)?);
            }
            let graph: Tensor = fill.table("graph", Axis(0), &[b, Neighbors::len(t, K)], &tables)?;
            let neighbors = Neighbors { graph, k: K };
            Ok(vec![out("y", Axis(0), local_norm_pool(r, &x, &alpha, &beta, &neighbors, true)?)])
        });
    }
}

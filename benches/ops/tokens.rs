//! tokens: the visible half of 196 patches is gathered, gets positions, and is restored among mask tokens.

use rowscan::cpu::tokens::{Dims, gather, gather_backward, restore, restore_backward};
use rowscan::ops::tokens;

use super::*;

/// ids (B, V) and inv (B, L): other tokens in every sample. 31 has no factor in common with any `l` here.
fn indices(Dims { b, l, v, .. }: Dims) -> (Vec<u32>, Vec<u32>) {
    let (mut ids, mut inv) = (Vec::new(), vec![u32::MAX; b * l]);
    for (b, inv) in inv.chunks_exact_mut(l).enumerate() {
        let visible = (0..l).filter(|token| (31 * token + 17 * b) % l < v);
        for (at, token) in visible.enumerate() {
            inv[token] = at as u32;
            ids.push(token as u32);
        }
    }
    (ids, inv)
}

/// The same on the device.
fn tables(g: &Gpu, dim: Dims) -> Result<(Tensor, Tensor)> {
    let (ids, inv) = indices(dim);
    Ok((Tensor::from_indices(g, &[dim.b, dim.v], &ids)?, Tensor::from_indices(g, &[dim.b, dim.l], &inv)?))
}

fn validate(g: &Gpu) {
    let dim @ Dims { b, l, v, d } = Dims { b: 3, l: 196, v: 98, d: 33 };
    let mut random = Random::new(1);
    let [all, dall] = [(); 2].map(|()| random.normal(b * l * d));
    let [some, dsome] = [(); 2].map(|()| random.normal(b * v * d));
    let (table, token) = (random.normal(l * d), random.normal(d));
    let (ids, inv) = indices(dim);
    let (ids_on, inv_on) = tables(g, dim).unwrap_or_else(|e| panic!("{e}"));
    // moved, or a sum of two; sums over B, or over B·L, normals
    let (exact, sums) = (Tol { rel: 1e-7, abs: 1e-7 }, Tol { rel: 1e-6, abs: 3e-5 });

    let (out, grads) =
        run(g, &[leaf(g, &[b, l, d], &all)], &dsome, |g, t, x| tokens::gather(g, t, &x[0], &ids_on, &inv_on));
    close("gather", &out, &gather(dim, &wide(&all), &ids, None), exact);
    close("gather dx", &grads[0], &gather_backward(dim, &ids, &wide(&dsome)).dx, exact);

    let leaves = [leaf(g, &[b, v, d], &some), leaf(g, &[d], &token), leaf(g, &[l, d], &table)];
    let (out, grads) = run(g, &leaves, &dall, |g, t, x| tokens::restore(g, t, &x[0], &x[1], &x[2], &ids_on, &inv_on));
    close("restore", &out, &restore(dim, &wide(&some), &inv, &wide(&token), Some(&wide(&table))), exact);
    let want = restore_backward(dim, &inv, &wide(&dall));
    close("restore dx", &grads[0], &want.dx, exact);
    close("restore dmask_token", &grads[1], &want.dmask_token, sums);
    close("restore dtable", &grads[2], &want.dtable, sums);

    let leaves = [&leaves[0], &leaves[2]].map(Var::clone);
    let (_, grads) = run(g, &leaves, &dsome, |g, t, x| tokens::embed(g, t, &x[0], &x[1], &ids_on, &inv_on));
    close("embed dtable", &grads[1], &gather_backward(dim, &ids, &wide(&dsome)).dtable, sums);
}

pub fn bench(b: &mut Bench) {
    b.family("tokens", validate);
    for s in b.shapes().into_iter().filter(|s| s.l < 196 || s.b == 1) {
        let dim = Dims { b: s.b, l: 196, v: 98, d: s.d };
        let [all, some, table] = [dim.b * dim.l, dim.b * dim.v, dim.l].map(|rows| rows * s.d);
        let name = |op: &str| format!("{op} {} 98of196x{}", s.model, s.b);
        let leaf = |x: &crate::inputs::Fill, l: usize| x.leaf(&[dim.b, l, dim.d]);
        let floors = [8 * some, 4 * (some + all)].map(Floor::bytes);
        b.op(&name("gather"), floors, |t, x| {
            let (ids, inv) = tables(x.g, dim)?;
            Ok(vec![tokens::gather(x.g, t, &leaf(x, dim.l)?, &ids, &inv)?])
        });
        // dx is dout itself
        let floors = [8 * some + 4 * table, 4 * (some + table)].map(Floor::bytes);
        b.op(&name("embed"), floors, |t, x| {
            let (ids, inv) = tables(x.g, dim)?;
            Ok(vec![tokens::embed(x.g, t, &leaf(x, dim.v)?, &x.leaf(&[dim.l, dim.d])?, &ids, &inv)?])
        });
        let floors = [4 * (some + all + table); 2].map(Floor::bytes);
        b.op(&name("restore"), floors, |t, x| {
            let ((ids, inv), token, table) = (tables(x.g, dim)?, x.leaf(&[dim.d])?, x.leaf(&[dim.l, dim.d])?);
            Ok(vec![tokens::restore(x.g, t, &leaf(x, dim.v)?, &token, &table, &ids, &inv)?])
        });
    }
}

//! tokens: gathering the visible half of 196 patches, adding positions, and restoring the rest as mask tokens.

use crate::bench::ops::*;
use crate::tensor::Tensor;
use cpu::tokens::{Dims, gather, gather_backward, restore, restore_backward};
use ops::tokens;

/// Tolerance of values that are copied, or the sum of two.
const TOL: Tol = Tol { rel: 1e-7, abs: 1e-7 };
/// Tolerance of sums over B or B·L.
const SUMS: f64 = 2e-6;

/// ids (B, V) and inv (B, L), with other visible tokens in every sample. 31 and 196 have no common factor, so
/// multiplying by 31 permutes the tokens.
fn tables(x: &Fill, Dims { b, l, v, .. }: Dims) -> Result<(Tensor, Tensor)> {
    let (mut ids, mut inv) = (Vec::new(), vec![u32::MAX; b * l]);
    for (b, inv) in inv.chunks_exact_mut(l).enumerate() {
        let visible = (0..l).filter(|token| (31 * token + 17 * b) % l < v);
        for (at, token) in visible.enumerate() {
            inv[token] = at as u32;
            ids.push(token as u32);
        }
    }
    Ok((x.table("ids", Axis(0), &[b, v], &ids)?, x.table("inv", Axis(0), &[b, l], &inv)?))
}

fn dims(v: &Values, d: usize) -> Result<Dims> {
    let ([b, seen], [_, l]) = (v.shape("ids")?, v.shape("inv")?);
    Ok(Dims { b, l, v: seen, d })
}

fn expect_gather(v: &Values, d: usize) -> Result<Vec<Want>> {
    let (dim, ids) = (dims(v, d)?, v.indices("ids")?);
    let y = gather(dim, v.get("x")?, &ids, None);
    Ok(vec![want("y", y, TOL), want("dx", gather_backward(dim, &ids, v.get("dy")?).dx, TOL)])
}

fn expect_embed(v: &Values, d: usize) -> Result<Vec<Want>> {
    let (dim, ids, dy) = (dims(v, d)?, v.indices("ids")?, v.get("dy")?);
    let at = gather(Dims { l: dim.l, ..dim }, &v.get("table")?.repeat(dim.b), &ids, None);
    let y = v.get("x")?.iter().zip(&at).map(|(x, at)| x + at).collect();
    let dtable = near("dtable", gather_backward(dim, &ids, dy).dtable, SUMS);
    Ok(vec![want("y", y, TOL), want("dx", dy.to_vec(), TOL), dtable])
}

fn expect_positions(v: &Values, l: usize, d: usize) -> Result<Vec<Want>> {
    let (x, table, dy) = (v.get("x")?, v.get("table")?, v.get("dy")?);
    let y = x.iter().enumerate().map(|(i, x)| x + table[i % (l * d)]).collect();
    let mut dtable = vec![0.0; l * d];
    dy.iter().enumerate().for_each(|(i, dy)| dtable[i % (l * d)] += dy);
    Ok(vec![want("y", y, TOL), want("dx", dy.to_vec(), TOL), near("dtable", dtable, SUMS)])
}

fn expect_restore(v: &Values, d: usize) -> Result<Vec<Want>> {
    let (dim, inv) = (dims(v, d)?, v.indices("inv")?);
    let y = restore(dim, v.get("x")?, &inv, v.get("token")?, Some(v.get("table")?));
    let back = restore_backward(dim, &inv, v.get("dy")?);
    let sums = [near("dtoken", back.dmask_token, SUMS), near("dtable", back.dtable, SUMS)];
    Ok([vec![want("y", y, TOL), want("dx", back.dx, TOL)], sums.to_vec()].concat())
}

pub fn cases(c: &mut Cases) {
    let mut shapes: Vec<(&str, usize, usize)> = c.scope.few().iter().map(|s| (s.model, s.b, s.d)).collect();
    shapes.dedup();
    for (model, b, d) in shapes {
        let dim = Dims { b, l: 196, v: 98, d };
        let [all, some, table] = [dim.b * dim.l, dim.b * dim.v, dim.l].map(|rows| rows * d);
        let name = |op: &str| format!("{op} {model} 98of196x{b}");
        let case = c.case(name("gather")).floors([8 * some, 4 * (some + all)].map(Floor::bytes));
        case.check(2, "images", move |v| expect_gather(v, d)).op(move |r, x| {
            let ((ids, inv), all) = (tables(x, dim)?, x.leaf("x", Axis(0), &[b, dim.l, d])?);
            Ok(vec![out("y", Axis(0), tokens::gather(r, &all, &ids, &inv)?)])
        });
        // backward: dx is dout itself, and only dtable is computed
        let case = c.case(name("embed")).floors([8 * some + 4 * table, 4 * (some + table)].map(Floor::bytes));
        case.check(2, "images", move |v| expect_embed(v, d)).op(move |r, x| {
            let ((ids, inv), table) = (tables(x, dim)?, x.leaf("table", Whole, &[dim.l, d])?);
            let some = x.leaf("x", Axis(0), &[b, dim.v, d])?;
            Ok(vec![out("y", Axis(0), tokens::embed(r, &some, &table, &ids, &inv)?)])
        });
        // backward: as for embed
        let name_all = format!("add_positions {model} {}x{b}", dim.l);
        let case = c.case(name_all).floors([8 * all + 4 * table, 4 * (all + table)].map(Floor::bytes));
        case.check(2, "images", move |v| expect_positions(v, dim.l, d)).op(move |r, x| {
            let (all, table) = (x.leaf("x", Axis(0), &[b, dim.l, d])?, x.leaf("table", Whole, &[dim.l, d])?);
            Ok(vec![out("y", Axis(0), tokens::add_positions(r, &all, &table)?)])
        });
        let case = c.case(name("restore")).floors([4 * (some + all + table); 2].map(Floor::bytes));
        case.check(2, "images", move |v| expect_restore(v, d)).op(move |r, x| {
            let ((ids, inv), some) = (tables(x, dim)?, x.leaf("x", Axis(0), &[b, dim.v, d])?);
            let (token, table) = (x.leaf("token", Whole, &[d])?, x.leaf("table", Whole, &[dim.l, d])?);
            Ok(vec![out("y", Axis(0), tokens::restore(r, &some, &token, &table, &ids, &inv)?)])
        });
    }
}

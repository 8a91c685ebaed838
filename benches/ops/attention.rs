//! attention: the encoder's full self-attention, and the decoder's over the rows that are already known.

use rowscan::cpu::attention::{Dims, Mask as Seen, backward, forward};
use rowscan::ops::attention::{Mask, Regions, self_attention};

use super::*;

fn validate(g: &Gpu) {
    let dim = Dims { b: 2, lq: 65, lk: 65, h: 3, dh: 12 };
    let (l, c) = (dim.lq, dim.h * dim.dh);
    let mut random = Random::new(1);
    let (qkv, dout) = (random.normal(dim.b * l * 3 * c), random.normal(dim.b * l * c));
    let column = |at: usize| -> Vec<f64> { qkv.chunks(3 * c).flat_map(|row| wide(&row[at * c..][..c])).collect() };
    let ([q, k, v], scale) = ([0, 1, 2].map(column), (dim.dh as f64).sqrt().recip());
    let rows: Vec<u32> = (0..l as u32).map(|token| token / 8).collect();
    let table = Regions::new(g, &rows).unwrap_or_else(|e| panic!("{e}"));
    for (mask, seen) in [(Mask::Full, Seen::Full), (Mask::RegionCausal, Seen::RegionCausal(&rows, &rows))] {
        let (out, grads) = run(g, &[leaf(g, &[dim.b, l, 3 * c], &qkv)], &dout, |g, t, v| {
            self_attention(g, t, &v[0], dim.h, mask, (mask != Mask::Full).then_some(&table))
        });
        let back = backward(dim, &q, &k, &v, scale, seen, &wide(&dout));
        let token = |row: usize| [&back.dq, &back.dk, &back.dv].map(|d| d[row * c..][..c].to_vec()).concat();
        let dqkv: Vec<f64> = (0..dim.b * l).flat_map(token).collect();
        // sums of 65 products of order 1 in another order, and one exp of a few ulp each way
        let tol = Tol { rel: 1e-5, abs: 1e-5 };
        close(&format!("{mask:?} out"), &out, &forward(dim, &q, &k, &v, scale, seen).out, tol);
        close(&format!("{mask:?} dqkv"), &grads[0], &dqkv, tol);
    }
}

pub fn bench(b: &mut Bench) {
    b.family("attention", validate);
    let encoder = b.shapes().into_iter().map(|s| (format!("{s}"), [s.b, s.l, s.d, 12], Mask::Full));
    let decoder = [1, b.batch()].map(|n| (format!("decoder 196x{n}"), [n, 196, 192, 16], Mask::RegionCausal));
    for (name, [n, l, c, heads], mask) in encoder.chain(decoder).collect::<Vec<_>>() {
        // keys that all queries together see: all, or those of their row of 14 tokens and of the rows before
        let pairs = if mask == Mask::Full { l * l } else { (0..l).map(|token| (token / 14 + 1) * 14).sum() };
        let floor = |bytes, flops, exps| Floor {
            bytes: bytes * n * l * c,
            flops: flops * n * pairs * c,
            exps: exps * n * heads * pairs,
        };
        b.op(&name, [floor(16, 4, 1), floor(36, 14, 2)], |t, x| {
            let table = (mask != Mask::Full).then(|| Regions::rows(x.g, l / 14, 14)).transpose()?;
            Ok(vec![self_attention(x.g, t, &x.leaf(&[n, l, 3 * c])?, heads, mask, table.as_ref())?])
        });
    }
}

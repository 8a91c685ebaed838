//! attention: full self-attention as in the encoder, and row-causal self-attention as in MAP's decoder.

use crate::bench::ops::*;
use cpu::attention::{Dims, Mask as Seen, backward, forward, weights};
use ops::attention::{AttentionMask, AttentionOptions, Regions, self_attention};

fn expect(v: &Values, heads: usize, side: Option<usize>, precision: Precision) -> Result<Vec<Want>> {
    let [b, l, c] = v.shape("qkv")?;
    let c = c / 3;
    let dim = Dims { b, lq: l, lk: l, h: heads, dh: c / heads };
    let (qkv, dout) = (v.get("qkv")?, v.get("dout")?);
    let column = |at: usize| -> Vec<f64> { qkv.chunks(3 * c).flat_map(|row| row[at * c..][..c].to_vec()).collect() };
    let ([q, k, v], scale) = ([0, 1, 2].map(column), (dim.dh as f64).sqrt().recip());
    let rows: Vec<u32> = (0..l).map(|token| (token / side.unwrap_or(1)) as u32).collect();
    let seen = if side.is_some() { Seen::RegionCausal(&rows, &rows) } else { Seen::Full };
    let back = backward(dim, &q, &k, &v, scale, seen, dout);
    let token = |row: usize| [&back.dq, &back.dk, &back.dv].map(|d| d[row * c..][..c].to_vec()).concat();
    let dqkv: Vec<f64> = (0..b * l).flat_map(token).collect();
    // f32: sums of L products of order 1 in another order than the oracle's, and an exp with an error of a few ulp. On
    // cooperative matrices operands and weights are rounded to f16, a relative error of about 2⁻¹²: a score of 5 then
    // has an absolute error of 5·2⁻¹², and so has its exp a relative one
    let share = if precision == Precision::Mixed { 4e-3 } else { 1e-5 };
    Ok(vec![near("out", forward(dim, &q, &k, &v, scale, seen).out, share), near("dqkv", dqkv, share)])
}

/// Self-attention in `n` images of `l` tokens. With `side`, a token sees its row of `side` tokens and the rows before
/// it. In mixed precision qkv, out and their gradients are f16, as in a model.
fn case(c: &mut Cases, name: String, [n, l, width, heads]: [usize; 4], side: Option<usize>, timed: bool) {
    let half = c.scope.precision == Precision::Mixed;
    // number of keys that a query sees: all, or those of its row and of the rows before
    let seen = |token: usize| side.map_or(l, |side| ((token / side + 1) * side).min(l));
    let pairs: usize = (0..l).map(seen).sum();
    let floor = |bytes: usize, flops, exps| {
        Floor::of(bytes / (1 + usize::from(half)) * n * l * width, flops * n * pairs * width, exps * n * heads * pairs)
    };
    let mask = if side.is_some() { AttentionMask::RegionCausal } else { AttentionMask::Full };
    let precision = c.scope.precision;
    let mut draft = c.case(name).fact("heads", heads).fact("row", side.unwrap_or(0));
    if timed {
        draft = draft.floors([floor(16, 4, 1), floor(36, 14, 2)]);
    }
    draft.check(1, "images", move |v| expect(v, heads, side, precision)).op(move |r, x| {
        let rows: Vec<u32> = (0..l).map(|token| (token / side.unwrap_or(1)) as u32).collect();
        let table = side.map(|_| Regions::new(x.g, &rows)).transpose()?;
        let qkv = x.leaf_in(half, "qkv", Axis(0), &[n, l, 3 * width])?;
        Ok(vec![out(
            "out",
            Axis(0),
            self_attention(r, &qkv, AttentionOptions { heads, mask, regions: table.as_ref() })?,
        )])
    });
}

/// The weights of one attention, which pictures of it are made of: q and k of `n` images of `l` tokens, in f32.
fn weights_case(c: &mut Cases, [n, l, width, heads]: [usize; 4]) {
    let (bytes, pairs) = (4 * n * l * (3 * width + heads * l), n * l * l);
    let case = c.case(format!("weights {l}x{n}")).floor(Floor::of(bytes, 4 * pairs * width, 2 * heads * pairs));
    case.check(1, "images", move |v| {
        let [b, l, width] = v.shape("q")?;
        let dim = Dims { b, lq: l, lk: l, h: heads, dh: width / heads };
        let k: Vec<f64> = v.get("kv")?.chunks(2 * width).flat_map(|row| row[..width].to_vec()).collect();
        let scale = (dim.dh as f64).sqrt().recip();
        // as for `out` in f32, with an exp more
        Ok(vec![near("weights", weights(dim, v.get("q")?, &k, scale, Seen::Full), 2e-5)])
    })
    .launches(move |r, x| {
        let q = x.normal("q", Axis(0), &[n, l, width])?;
        let kv = x.normal("kv", Axis(0), &[n, l, 2 * width])?;
        let options = AttentionOptions::heads(heads);
        Ok(vec![result("weights", Axis(0), ops::attention::weights(r, &q, &kv, options)?)])
    });
}

pub fn cases(c: &mut Cases) {
    weights_case(c, [c.scope.batch().min(8), 196, 192, 12]);
    case(c, "full small".into(), [1, 65, 36, 3], None, false);
    case(c, "causal small".into(), [1, 65, 36, 3], Some(8), false);
    for s in c.scope.shapes() {
        case(c, s.to_string(), [s.b, s.l, s.d, s.heads], None, true);
    }
    for n in c.scope.batches() {
        case(c, format!("decoder 196x{n}"), [n, 196, 192, 16], Some(14), true);
    }
}

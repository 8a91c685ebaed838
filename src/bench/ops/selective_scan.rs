//! selective_scan: the Mamba mixer's gated scan in two directions, with 16 states.

use crate::bench::ops::*;
use cpu::selective_scan::{Dims, Inputs, backward, forward};
use ops::selective_scan::{Algorithm, Scan, channel_layout, packed};

const S: usize = 2;
const N: usize = 16;

fn expect(v: &Values, half: bool) -> Result<Vec<Want>> {
    let [s, b, l, e] = v.shape("u")?;
    let [.., cols] = v.shape::<4>("xdbl")?;
    let dim = Dims { s, b, l, e, n: N, r: cols - 2 * N };
    let at = channel_layout(s, e, N);
    let channel_params = v.get("channel_params")?;
    let part = |start: usize, len: usize| &channel_params[start..start + len];
    let z: Vec<f64> = v.get("xz")?.chunks(2 * e).flat_map(|row| row[e..].to_vec()).collect();
    let inputs = Inputs {
        u: v.get("u")?,
        delta: v.get("delta")?,
        xdbl: v.get("xdbl")?,
        a_log: part(at.a_log, s * e * N),
        d: Some(part(at.d, s * e)),
        delta_bias: Some(part(at.bias, s * e)),
        z: Some(&z),
        softplus: true,
    };
    let (it, back) = (forward(dim, &inputs), backward(dim, &inputs, v.get("dout")?));
    let mut dchannel_params = vec![0.0; at.len];
    for (start, grad) in [(at.a_log, &back.da_log), (at.d, &back.dd), (at.bias, &back.ddelta_bias)] {
        dchannel_params[start..start + grad.len()].copy_from_slice(grad);
    }
    let dxz: Vec<f64> = back.dz.chunks(e).flat_map(|dz| [vec![0.0; e], dz.to_vec()].concat()).collect();
    // one rounding error per step, and exp with an error of a few ulp; dxdbl sums over E, dchannel_params over B·L. f16
    // results have a relative error of 2⁻¹¹, and twice that where two directions are added
    let share = if half { 1.5e-3 } else { 2e-5 };
    let wants = [("out", it.out), ("du", back.du), ("ddelta", back.ddelta), ("dxdbl", back.dxdbl)];
    let wants = wants.into_iter().chain([("dchannel_params", dchannel_params), ("dxz", dxz)]);
    Ok(wants.map(|(name, values)| near(name, values, share)).collect())
}

/// In mixed precision u, delta, xz, out and their gradients are f16, as in a model.
fn case(c: &mut Cases, name: String, [b, l, e, rank]: [usize; 4], algorithm: Option<Algorithm>, timed: bool) {
    let (n, half) = (b * l * e, c.scope.precision == Precision::Mixed);
    let floor =
        |bytes, flops, exps| Floor::of(if half { bytes / 2 } else { bytes } * n, flops * S * N * n, exps * S * N * n);
    let mut draft = c.case(name).fact("directions", S).fact("states", N);
    if timed {
        // flops per state and step. forward: δ·A, δ·u·B, h, y. backward: h again, p, λ, and the sums for du, ddelta,
        // dB, dC, dA
        draft = draft.floors([floor(4 * (2 * S + 2), 6, 1), floor(16 * S + 8 + 16, 18, 2)]);
    }
    draft.check(1, "images", move |v| expect(v, half)).op(move |r, x| {
        let stored = |name, axis, shape: &[usize]| x.leaf_in(half, name, Axis(axis), shape);
        let (u, delta) = (stored("u", 1, &[S, b, l, e])?, stored("delta", 1, &[S, b, l, e])?);
        let (xdbl, xz) = (x.leaf("xdbl", Axis(1), &[S, b, l, rank + 2 * N])?, stored("xz", 0, &[b, l, 2 * e])?);
        let channel_params = x.leaf("channel_params", Whole, &[channel_layout(S, e, N).len])?;
        let scan = Scan { algorithm, ..Scan::mamba(N) };
        Ok(vec![out("out", Axis(0), packed(r, &u, &delta, &xdbl, &channel_params, Some(&xz), scan)?.0)])
    });
}

pub fn cases(c: &mut Cases) {
    for algorithm in [Algorithm::Sequential, Algorithm::Chunked] {
        let name = format!("{algorithm:?} small").to_lowercase();
        case(c, name, [1, 53, c.scope.awkward(), 4], Some(algorithm), false);
    }
    // for the list `tried` in the shader: both algorithms of GPUs at shapes where either could be the faster
    let (few, many) = if c.scope.quick { (1, 2) } else { (1, 128) };
    for (b, l) in [(many, 98), (few, 592)] {
        for algorithm in [Algorithm::Sequential, Algorithm::Chunked] {
            let name = format!("{algorithm:?} tiny {l}x{b}").to_lowercase();
            case(c, name, [b, l, 384, 12], Some(algorithm), true);
        }
    }
    for s in c.scope.shapes() {
        case(c, s.to_string(), [s.b, s.l, s.e(), s.d.div_ceil(16)], None, true);
    }
}

//! ss2d: VMamba's scan of a map in four directions with its projections, between its convolution and its norm, with one
//! state.

use crate::bench::ops::*;
use cpu::ss2d::{Dims, Inputs, backward, forward};
use ops::selective_scan::{Algorithm, channel_layout};
use ops::ss2d::{DIRECTIONS, Ss2d, ss2d};

fn expect(v: &Values, dim: Dims, half: bool) -> Result<Vec<Want>> {
    let dim = Dims { b: v.picked.len(), ..dim };
    let (at, e, n) = (channel_layout(DIRECTIONS, dim.e, dim.n), dim.e, dim.n);
    let channel_params = v.get("channel_params")?;
    let x = Inputs {
        u: v.get("u")?,
        x_proj: v.get("x_proj")?,
        dt_proj: v.get("dt_proj")?,
        a_log: &channel_params[at.a_log..][..DIRECTIONS * e * n],
        d: &channel_params[at.d..][..DIRECTIONS * e],
        delta_bias: &channel_params[at.bias..][..DIRECTIONS * e],
    };
    let (out, back) = (forward(dim, &x), backward(dim, &x, v.get("dout")?));
    let mut dchannel_params = vec![0.0; at.len];
    for (start, grad) in [(at.a_log, &back.da_log), (at.d, &back.dd), (at.bias, &back.ddelta_bias)] {
        dchannel_params[start..start + grad.len()].copy_from_slice(grad);
    }
    // three kernels in a row: each adds the rounding of sums over E, R, N or B·L terms of either sign; in mixed
    // precision each product also rounds its operands by up to 2⁻¹¹
    let share = if half { 2e-2 } else { 1e-4 };
    let wants = [("out", out), ("du", back.du), ("dx_proj", back.dx_proj), ("ddt_proj", back.ddt_proj)];
    let wants = wants.into_iter().chain([("dchannel_params", dchannel_params)]);
    Ok(wants.map(|(name, values)| near(name, values, share)).collect())
}

fn case(c: &mut Cases, name: String, dim: Dims, algorithm: Option<Algorithm>, timed: bool) {
    let Dims { b, h, w, e, n, r } = dim;
    let (cells, cols, half) = (b * h * w, r + 2 * n, c.scope.precision == Precision::Mixed);
    let mut draft = c.case(name).fact("directions", DIRECTIONS).fact("states", n);
    if timed {
        // forward: reads u, writes dt|B|C and delta, which the backward pass reads, and out. backward: reads u, both
        // and dout, writes du
        let (channels, steps) = (cells * e, DIRECTIONS * cells * e);
        let (saved, products) = (4 * steps + 4 * DIRECTIONS * cells * cols, 2 * steps * (cols + r));
        let floor = |arrays: usize, times: usize, scan: usize, exps: usize| {
            Floor::of(saved + 4 * arrays * channels, times * products + scan * steps * n, exps * steps * n)
        };
        draft = draft.floors([floor(2, 1, 6, 1), floor(3, 2, 18, 2)]);
    }
    draft.check(1, "images", move |v| expect(v, dim, half)).op(move |r, x| {
        let u = x.leaf("u", Axis(0), &[b, h, w, e])?;
        // weights over the root of what a row sums, so that activations stay near 1 as in a trained mixer
        let weight = |name, shape: &[usize], sums: usize| x.leaf_over(name, shape, (sums as f32).sqrt());
        let p = Ss2d {
            x_proj: weight("x_proj", &[DIRECTIONS * cols, e], e)?,
            dt_proj: weight("dt_proj", &[DIRECTIONS, e, dim.r], dim.r)?,
            channel_params: x.leaf("channel_params", Whole, &[channel_layout(DIRECTIONS, e, n).len])?,
            states: n,
            algorithm,
        };
        Ok(vec![out("out", Axis(0), ss2d(r, &u, &p)?)])
    });
}

pub fn cases(c: &mut Cases) {
    for algorithm in [Algorithm::Sequential, Algorithm::Chunked] {
        let small = Dims { b: 2, h: 5, w: 7, e: c.scope.awkward(), n: 1, r: 6 };
        case(c, format!("{algorithm:?} small").to_lowercase(), small, Some(algorithm), false);
        case(c, format!("{algorithm:?} small n3").to_lowercase(), Dims { n: 3, ..small }, Some(algorithm), false);
    }
    // the four stages of VMamba-T at 224 pixels; with `quick` maps are smaller, because the oracle computes an image
    let (b, quick) = (c.scope.batch(), c.scope.quick);
    for (i, side) in [56, 28, 14, 7].into_iter().enumerate() {
        let (width, side) = (96 << i, if quick && side > 14 { 14 } else { side });
        let dim = Dims { b, h: side, w: side, e: 2 * width, n: 1, r: width.div_ceil(16) };
        case(c, format!("stage {i} {side}x{side}x{b}"), dim, None, !quick || i < 2);
    }
}

//! ssm: a Mamba mixer in two directions between its in_proj and its out_proj: convolution, both small projections, scan
//! and gate. Its families have cases of their own; here the gate's gradient belongs to the convolution, as in a model.

use crate::bench::ops::*;
use cpu::ssm as oracle;
use ops::selective_scan::{Scan, channel_layout};
use ops::ssm::{Ssm, ssm};

/// Directions, states and taps.
const S: usize = 2;
const N: usize = 16;
const K: usize = 4;

fn expect(v: &Values, half: bool) -> Result<Vec<Want>> {
    let ([b, l, width], [_, cols, _]) = (v.shape("xz")?, v.shape::<3>("x_proj")?);
    let (e, r) = (width / 2, cols - 2 * N);
    let (channel_params, at) = (v.get("channel_params")?, channel_layout(S, e, N));
    let x = oracle::Inputs {
        xz: v.get("xz")?,
        conv_w: v.get("conv_w")?,
        conv_b: v.get("conv_b")?,
        x_proj: v.get("x_proj")?,
        dt_proj: v.get("dt_proj")?,
        a_log: &channel_params[at.a_log..][..S * e * N],
        d: &channel_params[at.d..][..S * e],
        delta_bias: &channel_params[at.bias..][..S * e],
    };
    let dim = oracle::Dims { s: S, b, l, e, n: N, r, k: K };
    let (out, back) = (oracle::forward(dim, &x), oracle::backward(dim, &x, v.get("dout")?));
    let mut dchannel_params = vec![0.0; at.len];
    for (start, grad) in [(at.a_log, &back.da_log), (at.d, &back.dd), (at.bias, &back.ddelta_bias)] {
        dchannel_params[start..start + grad.len()].copy_from_slice(grad);
    }
    // Four kernels in a row: each adds the rounding of sums over E, R, N or B·L terms of either sign. With f16, each
    // also rounds what it stores and the operands of products by up to 2⁻¹¹.
    let share = if half { 2e-2 } else { 1e-4 };
    let wants = [("out", out), ("dxz", back.dxz), ("dconv_w", back.dconv_w), ("dconv_b", back.dconv_b)];
    let wants = wants.into_iter().chain([
        ("dx_proj", back.dx_proj),
        ("ddt_proj", back.ddt_proj),
        ("dchannel_params", dchannel_params),
    ]);
    Ok(wants.map(|(name, values)| near(name, values, share)).collect())
}

/// In mixed precision xz, out and all between them but dt|B|C are f16, as in a model.
fn case(c: &mut Cases, name: String, [b, l, e, rank]: [usize; 4], timed: bool) {
    let (n, half, cols) = (b * l * e, c.scope.precision == Precision::Mixed, rank + 2 * N);
    let mut draft = c.case(name).fact("directions", S).fact("states", N);
    if timed {
        let stored = if half { 2 } else { 4 };
        // forward: reads xz, writes u, delta, dt|B|C, which the backward pass reads, and out. backward: reads them, xz
        // and dout, writes dxz
        let saved = stored * 2 * S * n + 4 * S * b * l * cols;
        let products = 2 * S * n * (cols + rank);
        let floor = |arrays: usize, times: usize, scan: usize, exps: usize| {
            Floor::of(saved + stored * arrays * n, times * products + scan * S * N * n, exps * S * N * n)
        };
        draft = draft.floors([floor(3, 1, 6, 1), floor(5, 2, 18, 2)]);
    }
    draft.check(1, "images", move |v| expect(v, half)).op(move |r, x| {
        let xz = x.leaf_in(half, "xz", Axis(0), &[b, l, 2 * e])?;
        // weights over the root of what a row sums, so that activations stay near 1 as in a trained mixer
        let weight = |name, shape: &[usize], sums: usize| x.leaf_over(name, shape, (sums as f32).sqrt());
        let p = Ssm {
            conv_w: weight("conv_w", &[S, e, K], K)?,
            conv_b: weight("conv_b", &[S, e], K)?,
            x_proj: weight("x_proj", &[S, cols, e], e)?,
            dt_proj: weight("dt_proj", &[S, e, rank], rank)?,
            channel_params: x.leaf("channel_params", Whole, &[channel_layout(S, e, N).len])?,
            scan: Scan::mamba(N),
        };
        Ok(vec![out("out", Axis(0), ssm(r, &xz, &p)?)])
    });
}

pub fn cases(c: &mut Cases) {
    case(c, "small".into(), [1, 37, c.scope.awkward(), 12], false);
    for s in c.scope.shapes() {
        case(c, s.to_string(), [s.b, s.l, s.e(), s.d.div_ceil(16)], true);
    }
}

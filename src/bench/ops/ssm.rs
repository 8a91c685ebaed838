//! ssm: a Mamba mixer in two directions between its in_proj and its out_proj: convolution, both small projections, scan
//! and gate. Its families have cases of their own; here the gate's gradient belongs to the convolution, as in a model.

use crate::bench::ops::*;
use cpu::{conv1d, matmul, selective_scan};
use ops::selective_scan::{Scan, channel_layout};
use ops::ssm::{Ssm, ssm};

/// Directions, states and taps.
const S: usize = 2;
const N: usize = 16;
const K: usize = 4;

/// conv1d, matmul, matmul and selective_scan of the oracle in a row.
fn expect(v: &Values, half: bool) -> Result<Vec<Want>> {
    let ([b, l, width], [_, cols, _]) = (v.shape("xz")?, v.shape::<3>("x_proj")?);
    let (e, r, rows) = (width / 2, cols - 2 * N, b * l);
    let (xz, conv_w, conv_b) = (v.get("xz")?, v.get("conv_w")?, v.get("conv_b")?);
    let (x_proj, dt_proj, channel_params) = (v.get("x_proj")?, v.get("dt_proj")?, v.get("channel_params")?);
    let conv = conv1d::Dims { s: S, b, l, e, k: K, ldx: width };
    let u = conv1d::forward(conv, xz, conv_w, conv_b);
    let by_x = matmul::Dims { s: S, m: rows, n: cols, k: e };
    let xdbl = matmul::forward(by_x, &u, x_proj, None, None);
    let low: Vec<f64> = xdbl.chunks(cols).flat_map(|row| row[..r].to_vec()).collect();
    let by_dt = matmul::Dims { s: S, m: rows, n: e, k: r };
    let delta = matmul::forward(by_dt, &low, dt_proj, None, None);
    let z: Vec<f64> = xz.chunks(width).flat_map(|row| row[e..].to_vec()).collect();
    let at = channel_layout(S, e, N);
    let inputs = selective_scan::Inputs {
        u: &u,
        delta: &delta,
        xdbl: &xdbl,
        a_log: &channel_params[at.a_log..][..S * e * N],
        d: Some(&channel_params[at.d..][..S * e]),
        delta_bias: Some(&channel_params[at.bias..][..S * e]),
        z: Some(&z),
        softplus: true,
    };
    let scan = selective_scan::Dims { s: S, b, l, e, n: N, r };
    let (out, back) =
        (selective_scan::forward(scan, &inputs).out, selective_scan::backward(scan, &inputs, v.get("dout")?));
    let dt = matmul::backward(by_dt, &low, dt_proj, &back.ddelta);
    let mut dxdbl = back.dxdbl;
    for (row, dlow) in dxdbl.chunks_mut(cols).zip(dt.dx.chunks(r)) {
        row[..r].copy_from_slice(dlow);
    }
    let proj = matmul::backward(by_x, &u, x_proj, &dxdbl);
    let du: Vec<f64> = back.du.iter().zip(&proj.dx).map(|(a, b)| a + b).collect();
    let conv = conv1d::backward(conv, xz, conv_w, conv_b, &du);
    let dxz = conv.dx.chunks(e).zip(back.dz.chunks(e)).flat_map(|(dx, dz)| [dx, dz].concat()).collect();
    let mut dchannel_params = vec![0.0; at.len];
    for (start, grad) in [(at.a_log, &back.da_log), (at.d, &back.dd), (at.bias, &back.ddelta_bias)] {
        dchannel_params[start..start + grad.len()].copy_from_slice(grad);
    }
    // Four kernels in a row: each adds the rounding of sums over E, R, N or B·L terms of either sign. With f16, each
    // also rounds what it stores and the operands of products by up to 2⁻¹¹.
    let share = if half { 2e-2 } else { 1e-4 };
    let wants = [("out", out), ("dxz", dxz), ("dconv_w", conv.dw), ("dconv_b", conv.dbias), ("dx_proj", proj.dw)];
    let wants = wants.into_iter().chain([("ddt_proj", dt.dw), ("dchannel_params", dchannel_params)]);
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

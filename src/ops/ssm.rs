//! ssm: the selective state space of a Mamba mixer in S directions, between in_proj and out_proj, as one tape step.
//! Composed of other families, so it has no shader.
//!
//! ```text
//! x|z (B, L, 2E) ─conv1d─► u (S, B, L, E) ─x_proj─► dt|B|C (S, B, L, R+2N) ─dt_proj─► delta (S, B, L, E)
//!                            u, delta, B, C, z ─selective_scan─► out (B, L, E)
//! ```
//! Launches: 4 forward (6 where the scan is chunked), 9 backward, and what products add that split their sums.
//! Saves 4·B·L·(2E + S·(2E + E·N/16 + R + 2N)) bytes: xz, u, delta, the states at chunk ends, xdbl; and `out`, which
//! its reader keeps anyway. B = 128, L = 98, E = 384, N = 16: 39 MB of xz, 120 MB of the rest, for two directions. In
//! f16 all but xdbl take half of that.

use super::matmul::{Form, Gemm, gemm};
use super::{conv1d, selective_scan};
use crate::error::{Error, Result};
use crate::ops::matmul::Added;
use crate::tape::{Operands, Recorder, Var};
use crate::tensor::Tensor;

/// Parameters of the S directions.
#[derive(Debug, Clone)]
pub struct Ssm {
    /// (S, E, K)
    pub conv_w: Var,
    /// (S, E)
    pub conv_b: Var,
    /// (S, R+2N, E): rows dt | B | C
    pub x_proj: Var,
    /// (S, E, R)
    pub dt_proj: Var,
    /// A_log, D and delta_bias, laid out by [`channel_layout`](selective_scan::channel_layout).
    pub channel_params: Var,
    /// States and kind of the scan.
    pub scan: selective_scan::Scan,
}

impl Operands for &Ssm {
    type Owned = Ssm;

    fn to_owned(&self) -> Ssm {
        (*self).clone()
    }

    fn are_constant(&self) -> bool {
        [&self.conv_w, &self.conv_b, &self.x_proj, &self.dt_proj, &self.channel_params]
            .iter()
            .all(Operands::are_constant)
    }
}

/// xz (B, L, 2E) -> out (B, L, E), the mean over the directions of the gated scans. If xz is f16, so are u, delta, out
/// and their gradients, for which E has to be a multiple of 4, and what is kept of the states; the rest stays f32.
pub fn ssm(r: &mut Recorder, xz: &Var, p: &Ssm) -> Result<Var> {
    let conv = conv1d::Shape::new(&xz.data, &p.conv_w.data, &p.conv_b.data)?;
    let [s, cols, e] = p.x_proj.data.dims("ssm: x_proj")?;
    let [_, _, rank] = p.dt_proj.data.dims("ssm: dt_proj")?;
    let [b, l, _] = xz.data.dims("ssm: xz")?;
    if rank == 0 || cols != rank + 2 * p.scan.states {
        let expected = format!("rank R of at least 1 and R + 2·{} rows of x_proj", p.scan.states);
        return Err(Error::argument("ssm: sizes", format!("R = {rank}, {cols} rows"), expected));
    }
    p.dt_proj.data.expect_shape("ssm: dt_proj", &[s, e, rank])?;
    p.conv_b.data.expect_shape("ssm: conv_b", &[s, e])?;

    let rows = b * l;
    let u = conv.forward(r, &xz.data, &p.conv_w.data, &p.conv_b.data)?;
    let xdbl = Tensor::scratch("ssm xdbl", &[s, b, l, cols]);
    gemm(r, &Gemm::dense(Form::Nt, s, rows, cols, e), &u, &p.x_proj.data, Added::default(), &xdbl)?;
    let delta = u.scratch_like("ssm delta", &[s, b, l, e]);
    let low = Gemm { lda: cols, a_stride: rows * cols, ..Gemm::dense(Form::Nt, s, rows, e, rank) };
    gemm(r, &low, &xdbl, &p.dt_proj.data, Added::default(), &delta)?;
    let x = selective_scan::Inputs {
        u,
        delta,
        xdbl,
        channel_params: p.channel_params.data.clone(),
        xz: Some(xz.data.clone()),
    };
    let scan = selective_scan::Case::new(&x, p.scan)?;
    let save = r.keeps_rules();
    let (out, states) = scan.forward(r, &x, save)?;

    let saved = out.clone();
    Ok(r.push((xz, p), out, move |r, (xz, p), dout, grads| {
        let work = scan.backward(r, &x, &states, dout)?;
        drop(states);
        let ddelta = work.ddelta()?;
        if grads.wants(&p.channel_params) {
            let dchannel_params = grads.alloc(&p.channel_params);
            scan.sum_channel_params(r, &work, &dchannel_params)?;
            grads.add(r, &p.channel_params, dchannel_params)?;
        }
        if grads.wants(&p.dt_proj) {
            let dw = grads.alloc(&p.dt_proj);
            let low = Gemm { ldb: cols, b_stride: rows * cols, ..Gemm::dense(Form::Tn, s, e, rank, rows) };
            gemm(r, &low, &ddelta, &x.xdbl, Added::default(), &dw)?;
            grads.add(r, &p.dt_proj, dw)?;
        }

        // dxdbl: B and C from the scan, dt through dt_proj
        let dxdbl = Tensor::scratch("ssm dxdbl", &[s, b, l, cols]);
        scan.sum_bc(r, &work, &dxdbl, false)?;
        let low = Gemm { ldc: cols, c_stride: rows * cols, ..Gemm::dense(Form::Nn, s, rows, rank, e) };
        gemm(r, &low, &ddelta, &p.dt_proj.data, Added::default(), &dxdbl)?;
        if grads.wants(&p.x_proj) {
            let dw = grads.alloc(&p.x_proj);
            gemm(r, &Gemm::dense(Form::Tn, s, cols, e, rows), &dxdbl, &x.u, Added::default(), &dw)?;
            grads.add(r, &p.x_proj, dw)?;
        }

        // du: from the scan, and through x_proj
        let du = x.u.scratch_like("ssm du", &[s, b, l, e]);
        let from_scan = work.du()?;
        let added = Added { residual: Some(&from_scan), ..Added::default() };
        gemm(r, &Gemm::dense(Form::Nn, s, rows, e, cols), &dxdbl, &p.x_proj.data, added, &du)?;

        // dxz: the x half through the convolution, the z half from the gate
        let (dxz, dw, db) = (grads.alloc(&xz), grads.alloc(&p.conv_w), grads.alloc(&p.conv_b));
        let sums = (grads.wants(&p.conv_w) || grads.wants(&p.conv_b)).then_some((&dw, &db));
        let inputs = [&xz.data, &p.conv_w.data, &p.conv_b.data, &du];
        conv.backward(r, inputs, Some((&saved, dout)), &dxz, sums)?;
        if sums.is_some() {
            grads.add(r, &p.conv_w, dw)?;
            grads.add(r, &p.conv_b, db)?;
        }
        grads.add(r, &xz, dxz)
    }))
}

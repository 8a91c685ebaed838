//! ssm: a Mamba mixer in S directions, between its in_proj and its out_proj, as one operator. It is composed of other
//! families, so it has no shader.
//!
//! ```text
//! x|z (B, L, 2E) ─conv1d─► u (S, B, L, E) ─x_proj─► dt|B|C (S, B, L, R+2N) ─dt_proj─► delta (S, B, L, E)
//!                            u, delta, B, C, z ─selective_scan─► out (B, L, E)
//! ```
//! Launches: 4 forward (6 where the scan is chunked) and 7 backward, and sums of parts: two of conv1d and one of each
//! product that splits k, of which [`join`](super::parts::join) makes few.
//!
//! Saves 4·B·L·(2E + S·(2E + E·N/16 + R + 2N)) bytes for the backward pass: xz, u, delta, the states at the ends of
//! chunks, and xdbl = dt|B|C. It also saves `out`, which out_proj keeps anyway. For two directions and B = 128, L = 98,
//! E = 384, N = 16 that is 39 MB of xz and 120 MB of the rest. In f16 all but xdbl take half of that.

use super::matmul::{Form, Gemm, gemm};
use super::{conv1d, selective_scan};
use crate::error::{Error, Result};
use crate::ops::matmul::Added;
use crate::tape::{Operands, Recorder, Var};
use crate::tensor::Tensor;

/// The parameters of a Mamba mixer between in_proj and out_proj, each for all S directions.
#[derive(Debug, Clone)]
pub struct Ssm {
    /// `conv1d.weight` (S, E, K)
    pub conv_w: Var,
    /// `conv1d.bias` (S, E)
    pub conv_b: Var,
    /// `x_proj.weight` (S, R+2N, E), with rows dt | B | C
    pub x_proj: Var,
    /// `dt_proj.weight` (S, E, R)
    pub dt_proj: Var,
    /// `A_log`, `D` and `dt_proj.bias`, laid out by [`channel_layout`](selective_scan::channel_layout).
    pub channel_params: Var,
    /// The options of the scan.
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

/// A Mamba mixer without its in_proj and out_proj: convolution, SiLU, x_proj, dt_proj, selective scan and gate,
/// averaged over S directions.
///
/// If xz is f16, then u, delta, the saved states, out, and the gradients of xz, u, delta and out are f16 too. The rest
/// stays f32.
///
/// - Shapes: xz (B, L, 2E), the output of in_proj with columns x | z, or z | x if `scan.swapped` → (B, L, E).
/// - mamba_ssm: `mamba_inner_fn` without its `out_proj`. Vim: the same for each direction, with `if_divide_out=True`.
/// - Source: Gu and Dao 2023 (Mamba); two directions: Zhu et al. 2024 (Vim).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::ops::{selective_scan::{Scan, channel_layout}, ssm::{Ssm, ssm}};
/// # use rowscan::{doctest::assert_close, tape::*, tensor::Tensor};
/// # let ones = |shape: &[usize]| Tensor::from_slice(g, shape, &[1.0]).map(Var::leaf);
/// # let zeros = |shape: &[usize]| Tensor::from_slice(g, shape, &vec![0.0; shape.iter().product()]).map(Var::leaf);
/// # let layout = channel_layout(1, 1, 1);
/// # let mut values = vec![0.0; layout.len];
/// # values[layout.d] = 1.0;
/// # let channel_params = Var::leaf(Tensor::from_slice(g, &[layout.len], &values)?);
/// # let (conv_w, conv_b) = (ones(&[1, 1, 1])?, zeros(&[1, 1])?);
/// # let (x_proj, dt_proj) = (zeros(&[1, 3, 1])?, zeros(&[1, 1, 1])?);
/// // All sizes are 1. conv_w and D are 1, everything else is 0. So u = SiLU(x), B = C = 0 and y = D·u.
/// let p = Ssm { conv_w, conv_b, x_proj, dt_proj, channel_params, scan: Scan::mamba(1) };
/// let xz = Var::leaf(Tensor::from_slice(g, &[1, 1, 2], &[1.0, -1.0])?);
/// let mut r = Recorder::inference(g);
/// let y = ssm(&mut r, &xz, &p)?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[0.7311 * -0.2689], 1e-4); // SiLU(x)·SiLU(z)
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// Those of [`conv1d`](conv1d::conv1d) and [`selective_scan`](selective_scan::selective_scan), and if E is no multiple
/// of 4 in f16.
pub fn ssm(r: &mut Recorder, xz: &Var, p: &Ssm) -> Result<Var> {
    let conv = conv1d::Shape::new(&xz.data, &p.conv_w.data, &p.conv_b.data)?.with_halves(p.scan.swapped);
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
    let u = conv.forward(r, &xz.data, &p.conv_w.data, Some(&p.conv_b.data))?;
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
    let scan = selective_scan::ScanCall::new(r.caps(), &x, p.scan)?;
    let save = r.keeps_rules();
    let (out, states) = scan.forward(r, &x, save)?;

    let saved = out.clone();
    Ok(r.push((xz, p), out, move |r, (xz, p), dout, grads| {
        let work = scan.backward(r, &x, &states, dout)?;
        drop(states);
        let ddelta = work.ddelta()?;
        if grads.wants(&p.dt_proj) {
            let dw = grads.alloc(&p.dt_proj);
            let low = Gemm { ldb: cols, b_stride: rows * cols, ..Gemm::dense(Form::Tn, s, e, rank, rows) };
            gemm(r, &low, &ddelta, &x.xdbl, Added::default(), &dw)?;
            grads.add(r, &p.dt_proj, dw)?;
        }

        // dxdbl: its columns B and C come from the scan, its columns dt through dt_proj
        let dxdbl = Tensor::scratch("ssm dxdbl", &[s, b, l, cols]);
        let dparams = grads.wants(&p.channel_params).then(|| grads.alloc(&p.channel_params));
        scan.sum_parts(r, &work, Some(&dxdbl), false, dparams.as_ref())?;
        dparams.map_or(Ok(()), |dparams| grads.add(r, &p.channel_params, dparams))?;
        let low = Gemm { ldc: cols, c_stride: rows * cols, ..Gemm::dense(Form::Nn, s, rows, rank, e) };
        gemm(r, &low, &ddelta, &p.dt_proj.data, Added::default(), &dxdbl)?;
        if grads.wants(&p.x_proj) {
            let dw = grads.alloc(&p.x_proj);
            gemm(r, &Gemm::dense(Form::Tn, s, cols, e, rows), &dxdbl, &x.u, Added::default(), &dw)?;
            grads.add(r, &p.x_proj, dw)?;
        }

        // du: the sum of the gradients from the scan and through x_proj
        let du = x.u.scratch_like("ssm du", &[s, b, l, e]);
        let from_scan = work.du()?;
        let added = Added { residual: Some(&from_scan), ..Added::default() };
        gemm(r, &Gemm::dense(Form::Nn, s, rows, e, cols), &dxdbl, &p.x_proj.data, added, &du)?;

        // dxz: its x half comes through the convolution, its z half from the gate
        let (dxz, dw, db) = (grads.alloc(&xz), grads.alloc(&p.conv_w), grads.alloc(&p.conv_b));
        let sums = (grads.wants(&p.conv_w) || grads.wants(&p.conv_b)).then_some((&dw, Some(&db)));
        let inputs = [&xz.data, &p.conv_w.data, &du];
        conv.backward(r, inputs, Some(&p.conv_b.data), Some((&saved, dout)), &dxz, sums)?;
        if sums.is_some() {
            grads.add(r, &p.conv_w, dw)?;
            grads.add(r, &p.conv_b, db)?;
        }
        grads.add(r, &xz, dxz)
    }))
}

//! ss2d: the scan of VMamba over a map, in four directions, with the projections that make its operands, as one
//! operator. It is composed of other families, so it has no shader.
//!
//! ```text
//! u (B, H, W, E) ─x_proj─► dt|B|C (B, H, W, 4, R+2N) ─dt_proj─► delta (4, B, H, W, E)
//!                  u, delta, B, C ─selective_scan─► out (B, H, W, E)
//! ```
//! All directions read one u, so one product makes dt|B|C of all four. The scan walks columns without moving a map, so
//! nothing is gathered or put back.
//!
//! Launches: 4 forward (6 where the scan is chunked) and 7 backward, and one more for each product that splits k.
//!
//! Saves 4·B·L·(E + 4·(E + E·N'/T + R + 2N)) bytes for the backward pass, where N' is N rounded up to a multiple of 4
//! and T is 16 (8 above 32 states): u, delta, the states at the ends of chunks, and dt|B|C.

use super::matmul::{Form, Gemm, gemm};
use super::selective_scan;
use crate::error::{Error, Result};
use crate::ops::matmul::Added;
use crate::tape::{Operands, Recorder, Var};
use crate::tensor::Tensor;

/// Directions: by rows, by columns, and the same two from last to first.
pub const DIRECTIONS: usize = 4;

/// The parameters of an [`ss2d`], each for all four directions. Their order is VMamba's: rows, columns, rows from last
/// to first, columns from last to first.
#[derive(Debug, Clone)]
pub struct Ss2d {
    /// `x_proj_weight` (4·(R+2N), E): for each direction rows dt | B | C.
    pub x_proj: Var,
    /// `dt_projs_weight` (4, E, R)
    pub dt_proj: Var,
    /// `A_logs`, `Ds` and `dt_projs_bias`, laid out by [`channel_layout`](selective_scan::channel_layout) for four
    /// directions.
    pub channel_params: Var,
    /// States N of a channel.
    pub states: usize,
    /// The algorithm of the forward scan. If None, it depends on sizes and device.
    pub algorithm: Option<selective_scan::Algorithm>,
}

impl Operands for &Ss2d {
    type Owned = Ss2d;

    fn to_owned(&self) -> Ss2d {
        (*self).clone()
    }

    fn are_constant(&self) -> bool {
        [&self.x_proj, &self.dt_proj, &self.channel_params].iter().all(Operands::are_constant)
    }
}

/// VMamba's scan of a map: x_proj, dt_proj and the selective scan in four directions, whose outputs are added.
///
/// - Shapes: u (B, H, W, E) → (B, H, W, E).
/// - VMamba: `SS2D.forward_core` (`v05_noz`) without `out_norm`, with channels last.
/// - Source: Liu et al. 2024 (VMamba).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::ops::{selective_scan::channel_layout, ss2d::{Ss2d, ss2d}};
/// # use rowscan::{doctest::assert_close, tape::*, tensor::Tensor};
/// # let zeros = |shape: &[usize]| Tensor::from_slice(g, shape, &vec![0.0; shape.iter().product()]).map(Var::leaf);
/// # let layout = channel_layout(4, 1, 1);
/// # let mut values = vec![0.0; layout.len];
/// # values[layout.d..layout.d + 4].fill(1.0);
/// # let channel_params = Var::leaf(Tensor::from_slice(g, &[layout.len], &values)?);
/// # let (x_proj, dt_proj) = (zeros(&[12, 1])?, zeros(&[4, 1, 1])?);
/// // One channel. D is 1 in every direction, everything else is 0. So B = C = 0 and each direction gives u.
/// let p = Ss2d { x_proj, dt_proj, channel_params, states: 1, algorithm: None };
/// let u = Var::leaf(Tensor::from_slice(g, &[1, 1, 2, 1], &[1.0, -0.5])?);
/// let mut r = Recorder::inference(g);
/// let y = ss2d(&mut r, &u, &p)?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[4.0, -2.0], 1e-6);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// Those of [`selective_scan`](selective_scan::selective_scan), and if u is stored in f16.
pub fn ss2d(r: &mut Recorder, u: &Var, p: &Ss2d) -> Result<Var> {
    let [b, h, w, e] = u.data.dims("ss2d: u")?;
    let [rows, _] = p.x_proj.data.dims("ss2d: x_proj")?;
    let [_, _, rank] = p.dt_proj.data.dims("ss2d: dt_proj")?;
    let (l, cols, n) = (h * w, rows / DIRECTIONS, p.states);
    if rank == 0 || rows != DIRECTIONS * (rank + 2 * n) {
        let expected = format!("rank R of at least 1 and 4·(R + 2·{n}) rows of x_proj");
        return Err(Error::argument("ss2d: sizes", format!("R = {rank}, {rows} rows"), expected));
    }
    p.x_proj.data.expect_shape("ss2d: x_proj", &[rows, e])?;
    p.dt_proj.data.expect_shape("ss2d: dt_proj", &[DIRECTIONS, e, rank])?;

    let tokens = b * l;
    let xdbl = Tensor::scratch("ss2d xdbl", &[b, l, DIRECTIONS, cols]);
    gemm(r, &Gemm::dense(Form::Nt, 1, tokens, rows, e), &u.data, &p.x_proj.data, Added::default(), &xdbl)?;
    let delta = Tensor::scratch("ss2d delta", &[DIRECTIONS, b, l, e]);
    // the columns dt of a direction: rows of x_proj's result are as long as those of all four directions
    let dt = |form, m, n, k| Gemm::dense(form, DIRECTIONS, m, n, k);
    let low = Gemm { lda: rows, a_stride: cols, ..dt(Form::Nt, tokens, e, rank) };
    gemm(r, &low, &xdbl, &p.dt_proj.data, Added::default(), &delta)?;
    let x = selective_scan::Inputs {
        u: u.data.reshape(&[1, b, l, e])?,
        delta,
        xdbl,
        channel_params: p.channel_params.data.clone(),
        xz: None,
    };
    let spec =
        selective_scan::Scan { grid: Some((h, w)), algorithm: p.algorithm, ..selective_scan::Scan::mamba(p.states) };
    let scan = selective_scan::ScanCall::new(r.caps(), &x, spec)?;
    let save = r.keeps_rules();
    let (out, states) = scan.forward(r, &x, save)?;

    Ok(r.push((u, p), out.reshape(u.data.shape())?, move |r, (u, p), dout, grads| {
        let dout = dout.reshape(&[b, l, e])?;
        let work = scan.backward(r, &x, &states, &dout)?;
        drop(states);
        let ddelta = work.ddelta()?;
        if grads.wants(&p.dt_proj) {
            let dw = grads.alloc(&p.dt_proj);
            let low = Gemm { ldb: rows, b_stride: cols, ..dt(Form::Tn, e, rank, tokens) };
            gemm(r, &low, &ddelta, &x.xdbl, Added::default(), &dw)?;
            grads.add(r, &p.dt_proj, dw)?;
        }

        // dxdbl: its columns B and C come from the scan, its columns dt through dt_proj
        let dxdbl = Tensor::scratch("ss2d dxdbl", &[b, l, DIRECTIONS, cols]);
        let dparams = grads.wants(&p.channel_params).then(|| grads.alloc(&p.channel_params));
        scan.sum_parts(r, &work, Some(&dxdbl), false, dparams.as_ref())?;
        dparams.map_or(Ok(()), |dparams| grads.add(r, &p.channel_params, dparams))?;
        let low = Gemm { ldc: rows, c_stride: cols, ..dt(Form::Nn, tokens, rank, e) };
        gemm(r, &low, &ddelta, &p.dt_proj.data, Added::default(), &dxdbl)?;
        if grads.wants(&p.x_proj) {
            let dw = grads.alloc(&p.x_proj);
            gemm(r, &Gemm::dense(Form::Tn, 1, rows, e, tokens), &dxdbl, &u.data, Added::default(), &dw)?;
            grads.add(r, &p.x_proj, dw)?;
        }

        if !grads.wants(&u) {
            return Ok(());
        }
        // du: the sum of the gradients from the scan and through x_proj
        let from_scan = work.du_of_grid(r)?;
        let du = grads.alloc(&u);
        let added = Added { residual: Some(&from_scan), ..Added::default() };
        gemm(r, &Gemm::dense(Form::Nn, 1, tokens, e, rows), &dxdbl, &p.x_proj.data, added, &du)?;
        grads.add(r, &u, du)
    }))
}

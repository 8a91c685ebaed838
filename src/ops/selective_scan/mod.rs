//! selective_scan: the scan of Mamba-1. Maths: `shaders/selective_scan.wgsl` and
//! `shaders/selective_scan_backward.wgsl`; for CPUs `shaders/selective_scan_whole.wgsl`.

mod backward;
mod call;
mod forward;
mod whole;
mod workspace;

pub use backward::backward_tiling;
pub use call::{Algorithm, ChannelLayout, Scan, channel_layout};
pub(super) use call::{Inputs, ScanCall};

use backward::{GATE, SCAN, SUM_PARTS};
use forward::{CHUNK_APPLY, CHUNK_CARRY, CHUNK_SCAN, LAST_STATE, SEQUENTIAL};

use super::concat::{concat, concat_at};
use super::reshape::reshape;
use crate::error::Result;
use crate::gpu::Kernel;
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[
    &SEQUENTIAL,
    &CHUNK_SCAN,
    &CHUNK_CARRY,
    &CHUNK_APPLY,
    &LAST_STATE,
    &SCAN,
    &SUM_PARTS,
    &whole::FORWARD,
    &whole::BACKWARD,
    &GATE,
];

/// Optional operands of a scan. By default there are none, and δ = delta, as in mamba_ssm.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScanOptions<'a> {
    /// D (S, E): D·u is added to the output of the scan.
    pub d: Option<&'a Var>,
    /// The gate z (B, L, E): the result is multiplied by SiLU(z). Its element type is that of u.
    pub z: Option<&'a Var>,
    /// A bias (S, E) that is added to delta.
    pub delta_bias: Option<&'a Var>,
    /// Whether δ = softplus(delta + delta_bias). Otherwise δ = delta + delta_bias.
    pub delta_softplus: bool,
    /// The algorithm of the forward pass. If None, it depends on sizes and device.
    pub algorithm: Option<Algorithm>,
}

/// The selective scan of Mamba-1 in S = 1 or 2 directions, averaged over the directions.
///
/// Each channel has N states h, which start at 0. A step is h ← exp(δ·A)·h + δ·B·u and y = Σ_n C·h + D·u, with
/// A = −exp(a_log). Direction 0 steps from the first token to the last, and direction 1 from the last to the first.
///
/// - Shapes: u and delta (S, B, L, E), a_log (S, E, N), b and c (S, B, L, N) → out (B, L, E), and the states after the
///   last step (S, B, E, N), which get no gradient. u, delta and z are all f32 or all f16; out has their type.
/// - mamba_ssm: `selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state=True)`, whose
///   layout is (B, E, L).
/// - Source: Gu and Dao 2023 (Mamba); two directions: Zhu et al. 2024 (Vim).
///
/// The kernels read b and c from one tensor, and likewise the parameters of the channels, and x and z, because a mixer
/// has them so. This function packs its operands; [`packed`] takes them packed.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::ops::selective_scan::{ScanOptions, selective_scan};
/// # use rowscan::{doctest::assert_close, tape::*, tensor::Tensor};
/// # use std::f32::consts::LN_2;
/// # let tokens = |values: [f32; 3]| Tensor::from_slice(g, &[1, 1, 3, 1], &values).map(Var::leaf);
/// let (u, delta) = (tokens([1.0, 0.0, 0.0])?, tokens([LN_2; 3])?); // (1, 1, 3, 1), u is an impulse
/// let a_log = Var::leaf(Tensor::from_slice(g, &[1, 1, 1], &[0.0])?); // A = -1: exp(δ·A) = 1/2
/// let (b, c) = (tokens([1.0 / LN_2; 3])?, tokens([1.0; 3])?);
/// let mut r = Recorder::inference(g);
/// let (y, last) = selective_scan(&mut r, &u, &delta, &a_log, &b, &c, ScanOptions::default())?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[1.0, 0.5, 0.25], 1e-5);
/// assert_close(&last.to_vec(g)?, &[0.25], 1e-5);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If S is not 1 or 2, if N is not 1 to 64, or if E is odd in f16.
pub fn selective_scan(
    r: &mut Recorder, u: &Var, delta: &Var, a_log: &Var, b: &Var, c: &Var, options: ScanOptions<'_>,
) -> Result<(Var, Tensor)> {
    let ScanOptions { d, z, delta_bias, delta_softplus: softplus, algorithm } = options;
    let [s, batch, l, e] = u.data.dims("selective_scan: u")?;
    let [_, _, n] = a_log.data.dims("selective_scan: a_log")?;
    a_log.data.expect_shape("selective_scan: a_log", &[s, e, n])?;
    for (what, tensor, shape) in [
        ("selective_scan: b", Some(b), &[s, batch, l, n][..]),
        ("selective_scan: c", Some(c), &[s, batch, l, n]),
        ("selective_scan: d", d, &[s, e]),
        ("selective_scan: delta_bias", delta_bias, &[s, e]),
        ("selective_scan: z", z, &[batch, l, e]),
    ] {
        tensor.map_or(Ok(()), |tensor| tensor.data.expect_shape(what, shape))?;
    }
    let layout = channel_layout(s, e, n);
    let flat = |r: &mut Recorder, x: Option<&Var>| x.map(|x| reshape(r, x, &[x.data.len()])).transpose();
    let (a_log, d_, bias) = (flat(r, Some(a_log))?, flat(r, d)?, flat(r, delta_bias)?);
    let params = [(layout.a_log, a_log.as_ref()), (layout.d, d_.as_ref()), (layout.bias, bias.as_ref())];
    let params = concat_at(r, &params, layout.len)?;
    let xdbl = concat(r, &[b, c])?; // (S, B, L, 2N)
    let xz = z.map(|z| concat_at(r, &[(e, Some(z))], 2 * e)).transpose()?; // (B, L, 2E)
    let (has_d, has_bias) = (d.is_some(), delta_bias.is_some());
    let scan = Scan { states: n, softplus, has_d, has_bias, algorithm, grid: None, swapped: false };
    packed(r, u, delta, &xdbl, &params, xz.as_ref(), scan)
}

/// [`selective_scan`] with packed operands, as a Mamba mixer has them.
///
/// - `xdbl` (S, B, L, R+2N), the output of `x_proj`, holds b and c in its last 2N columns. Its gradient is 0 in columns
///   0..R.
/// - `channel_params` holds a_log, D and delta_bias, laid out by [`channel_layout`].
/// - xz (B, L, 2E), the output of `in_proj`, holds z in its last E columns. Its gradient is 0 in the first E.
/// - With [`Scan::grid`] there are four directions, whose sum is the result: u (1, B, L, E) serves all of them, delta
///   is (4, B, L, E), xdbl (B, L, 4, R+2N), and z is absent. VMamba's `cross_scan_fn`, `selective_scan_fn` and
///   `cross_merge_fn` in a row.
///
/// # Errors
///
/// Those of [`selective_scan`].
pub fn packed(
    r: &mut Recorder, u: &Var, delta: &Var, xdbl: &Var, channel_params: &Var, xz: Option<&Var>, scan: Scan,
) -> Result<(Var, Tensor)> {
    let inputs = Inputs {
        u: u.data.clone(),
        delta: delta.data.clone(),
        xdbl: xdbl.data.clone(),
        channel_params: channel_params.data.clone(),
        xz: xz.map(|xz| xz.data.clone()),
    };
    let case = ScanCall::new(r.caps(), &inputs, scan)?;
    let (out, states) = case.forward(r, &inputs, true)?;
    let last = case.last_state(r, &states)?;
    let saved = out.clone();
    let out = r.push((u, delta, xdbl, channel_params, xz), out, move |r, vars, dout, grads| {
        let (u, delta, xdbl, channel_params, z) = vars;
        let work = case.backward(r, &inputs, &states, dout)?;
        drop(states);
        if let (Some(z), Some(xz)) = (&z, &inputs.xz)
            && grads.wants(z)
        {
            let dxz = grads.alloc(z);
            case.gate(r, xz, &saved, dout, &dxz)?;
            grads.add(r, z, dxz)?;
        }
        let wanted = |grads: &Grads, var: &Var| grads.wants(var).then(|| grads.alloc(var));
        let (dxdbl, dchannel_params) = (wanted(grads, &xdbl), wanted(grads, &channel_params));
        case.sum_parts(r, &work, dxdbl.as_ref(), true, dchannel_params.as_ref())?;
        for (var, gradient) in [(&xdbl, dxdbl), (&channel_params, dchannel_params)] {
            gradient.map_or(Ok(()), |gradient| grads.add(r, var, gradient))?;
        }
        grads.add(r, &delta, work.ddelta()?)?;
        let du = if scan.grid.is_some() { work.du_of_grid(r)? } else { work.du()? };
        grads.add(r, &u, du)
    });
    Ok((out, last))
}

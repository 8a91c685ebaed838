//! selective_scan: launchers and tape rule of the scan of Mamba-1. Maths: `shaders/selective_scan.wgsl` and
//! `shaders/selective_scan_backward.wgsl`.

mod backward;
mod call;
mod forward;

pub use backward::{Backward, backward_tiling};
pub use call::{Algorithm, ChannelLayout, Scan, channel_layout};
pub(super) use call::{Case, Inputs};
pub use forward::Forward;

use backward::{GATE, SCAN, SUM_BC, SUM_CHANNEL_PARAMS};
use forward::{CHUNK_APPLY, CHUNK_CARRY, CHUNK_SCAN, LAST_STATE, SEQUENTIAL};

use super::concat::{concat, concat_at};
use super::reshape::reshape;
use crate::error::Result;
use crate::gpu::Kernel;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// The kernels of this family.
pub const KERNELS: &[&Kernel] =
    &[&SEQUENTIAL, &CHUNK_SCAN, &CHUNK_CARRY, &CHUNK_APPLY, &LAST_STATE, &SCAN, &SUM_BC, &SUM_CHANNEL_PARAMS, &GATE];

/// What a scan has besides its inputs. By default nothing, and δ = delta: mamba_ssm's defaults.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScanOptions<'a> {
    /// D (S, E), the factor on u that skips the scan.
    pub d: Option<&'a Var>,
    /// The gate (B, L, E): the result is multiplied by SiLU(z). Stored as u is.
    pub z: Option<&'a Var>,
    /// Added to delta first: (S, E).
    pub delta_bias: Option<&'a Var>,
    /// Whether δ = softplus(delta + delta_bias).
    pub delta_softplus: bool,
    /// Forces an algorithm.
    pub algorithm: Option<Algorithm>,
}

/// The selective scan of Mamba-1 in S directions (1, or 2 with the second from last to first), averaged: u and delta
/// (S, B, L, E), a_log (S, E, N) with A = −exp(a_log), b and c (S, B, L, N) -> out (B, L, E), and the states after the
/// last step (S, B, E, N), which get no gradient. mamba_ssm: `selective_scan_fn(u, delta, A, B, C, D, z, delta_bias,
/// delta_softplus, return_last_state=True)` with its layouts (B, E, L) transposed.
///
/// The kernel reads b and c from one tensor, and so the parameters of the channels, and x and z, as a mixer has them.
/// This packs them; [`packed`] takes them packed.
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
    let scan = Scan { states: n, softplus, has_d: d.is_some(), has_bias: delta_bias.is_some(), algorithm };
    packed(r, u, delta, &xdbl, &params, xz.as_ref(), scan)
}

/// [`selective_scan`] of packed operands: b and c are the last columns of xdbl (S, B, L, R+2N), the parameters of the
/// channels lie in one tensor as [`channel_layout`] says, and z is the second half of xz (B, L, 2E). The gradient of xz
/// is zero in the x half, that of xdbl in columns 0..R.
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
    let case = Case::new(&inputs, scan)?;
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
        if grads.wants(&xdbl) {
            let dxdbl = grads.alloc(&xdbl);
            case.sum_bc(r, &work, &dxdbl, true)?;
            grads.add(r, &xdbl, dxdbl)?;
        }
        if grads.wants(&channel_params) {
            let dchannel_params = grads.alloc(&channel_params);
            case.sum_channel_params(r, &work, &dchannel_params)?;
            grads.add(r, &channel_params, dchannel_params)?;
        }
        grads.add(r, &delta, work.ddelta()?)?;
        grads.add(r, &u, work.du()?)
    });
    Ok((out, last))
}

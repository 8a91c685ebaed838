//! selective_scan: launchers and tape rule of the scan of Mamba-1. Maths: `shaders/selective_scan.wgsl` and
//! `shaders/selective_scan_backward.wgsl`.

mod backward;
mod call;
mod forward;

pub use backward::{Backward, backward_tiling};
pub use call::{Algorithm, ChanLayout, Scan, chan_layout};
pub(super) use call::{Case, Inputs};
pub use forward::Forward;

use backward::{GATE, SCAN, SUM_BC, SUM_CHAN};
use forward::{CHUNK_APPLY, CHUNK_CARRY, CHUNK_SCAN, LAST_STATE, SEQUENTIAL};

use crate::error::Result;
use crate::gpu::Kernel;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// The kernels of this family.
pub const KERNELS: &[&Kernel] =
    &[&SEQUENTIAL, &CHUNK_SCAN, &CHUNK_CARRY, &CHUNK_APPLY, &LAST_STATE, &SCAN, &SUM_BC, &SUM_CHAN, &GATE];

/// Scans u (S, B, L, E) with step sizes delta (S, B, L, E), B and C in xdbl (S, B, L, R+2N) and the parameters of
/// [`chan_layout`]; gates with the z half of (B, L, 2E) and averages over the directions -> out (B, L, E), and the
/// states after the last step (S, B, E, N). The gradient of z is zero in the x half, that of xdbl in columns 0..R.
#[allow(clippy::too_many_arguments, reason = "the scan's inputs as the papers list them")]
pub fn selective_scan(
    r: &mut Recorder, u: &Var, delta: &Var, xdbl: &Var, chan: &Var, z: Option<&Var>, spec: Scan,
) -> Result<(Var, Tensor)> {
    let inputs = Inputs {
        u: u.data.clone(),
        delta: delta.data.clone(),
        xdbl: xdbl.data.clone(),
        chan: chan.data.clone(),
        xz: z.map(|z| z.data.clone()),
    };
    let case = Case::new(&inputs, spec)?;
    let (out, states) = case.forward(r, &inputs, true)?;
    let last = case.last_state(r, &states)?;
    let saved = out.clone();
    let out = r.push((u, delta, xdbl, chan, z), out, move |r, vars, dout, grads| {
        let (u, delta, xdbl, chan, z) = vars;
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
        if grads.wants(&chan) {
            let dchan = grads.alloc(&chan);
            case.sum_chan(r, &work, &dchan)?;
            grads.add(r, &chan, dchan)?;
        }
        grads.add(r, &delta, work.ddelta()?)?;
        grads.add(r, &u, work.du()?)
    });
    Ok((out, last))
}

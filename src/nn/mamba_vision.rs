//! The mixer of MambaVision: a scan over half of the channels beside a gate-free half. Formulae and shapes:
//! src/models/README.md, "MambaVision".

use super::init::Init;
use super::linear::Linear;
use super::params::{Params, Part};
use crate::error::{Error, Result};
use crate::ops::concat::{concat, narrow};
use crate::ops::conv1d::conv1d_same;
use crate::ops::matmul::{MatmulOptions, matmul};
use crate::ops::reshape::reshape;
use crate::ops::selective_scan::{Scan, channel_layout, packed};
use crate::tape::{Recorder, Var};

/// Taps of the two convolutions: one token before, the token, one token behind.
const TAPS: usize = 3;

/// out_proj([scan(SiLU(conv x)); SiLU(conv z)]), x|z = in_proj: MambaVision's `MambaVisionMixer`. It scans one way and
/// has no gate.
#[derive(Debug, Clone)]
pub struct MambaVisionMixer {
    in_proj: Linear,
    /// Rows of `conv1d_x`, then of `conv1d_z`: (D, 3).
    conv: Var,
    x_proj: Linear,
    dt_proj: Var,
    /// `A_log`, `D` and `dt_proj.bias`, laid out by [`channel_layout`].
    channel_params: Var,
    out_proj: Linear,
    width: usize,
    states: usize,
}

impl MambaVisionMixer {
    /// Parameters `name.{in_proj,conv1d_x,conv1d_z,x_proj,dt_proj,out_proj}.weight`, `dt_proj.bias`, `A_log` and `D`.
    pub fn new(params: &mut Params, name: &str, width: usize, states: usize) -> Result<Self> {
        if !width.is_multiple_of(2) || states == 0 || states > 64 {
            let got = format!("width {width}, d_state {states}");
            return Err(Error::argument(name.to_owned(), got, "an even width, d_state 1 to 64"));
        }
        let (e, n, rank) = (width / 2, states, width.div_ceil(16));
        let linear = Init::TruncNormal(0.02);
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let part = |name: &str, shape: &[usize], init| Part {
            names: names(&[name]),
            shape: shape.to_vec(),
            inits: vec![init],
            reversed: None,
        };
        let layout = channel_layout(1, e, n);
        params.scope(name, |p| {
            let conv = Part {
                names: names(&["conv1d_x.weight", "conv1d_z.weight"]),
                shape: vec![e, 1, TAPS],
                inits: vec![Init::FanIn(1.0); 2],
                reversed: None,
            };
            // the official initial values overwrite those of dt_proj: step sizes start at softplus(0)
            let channels = [
                part("A_log", &[e, n], Init::LogArange),
                part("D", &[e], Init::Ones),
                part("dt_proj.bias", &[e], Init::Zeros),
            ];
            Ok(Self {
                in_proj: Linear::no_bias(p, "in_proj", width, width, linear)?,
                conv: p.pack(&[conv], &[width, TAPS])?,
                x_proj: Linear::no_bias(p, "x_proj", e, rank + 2 * n, linear)?,
                dt_proj: p.add("dt_proj.weight", &[e, rank], &[e, rank], linear)?,
                channel_params: p.pack(&channels, &[layout.len])?,
                out_proj: Linear::no_bias(p, "out_proj", width, width, linear)?,
                width,
                states,
            })
        })
    }

    /// x (B, L, D) → (B, L, D), plus `residual` (B, L, D) if there is one.
    pub fn forward_onto(&self, r: &mut Recorder, x: &Var, residual: Option<&Var>) -> Result<Var> {
        let (e, n) = (self.width / 2, self.states);
        let [b, l, _] = x.data.dims("mixer: x")?;
        let xz = self.in_proj.forward(r, x)?; // (B, L, D)
        let xz = conv1d_same(r, &xz, &self.conv)?;
        let (u, z) = (narrow(r, &xz, 0, e)?, narrow(r, &xz, e, e)?); // (B, L, D/2)

        let xdbl = self.x_proj.forward(r, &u)?; // (B, L, R+2N)
        let rank = xdbl.data.shape()[2] - 2 * n;
        let dt = narrow(r, &xdbl, 0, rank)?;
        // the official code adds the bias twice: in the linear layer, and again in the scan
        let bias = narrow(r, &self.channel_params, channel_layout(1, e, n).bias, e)?;
        let delta = matmul(r, &dt, &self.dt_proj, MatmulOptions { bias: Some(&bias), ..MatmulOptions::default() })?;
        let direction = |r: &mut Recorder, x: &Var| {
            let columns = x.data.shape()[2];
            reshape(r, x, &[1, b, l, columns])
        };
        let (u, delta, xdbl) = (direction(r, &u)?, direction(r, &delta)?, direction(r, &xdbl)?);
        let (y, _) = packed(r, &u, &delta, &xdbl, &self.channel_params, None, Scan::mamba(n))?; // (B, L, D/2)

        let y = concat(r, &[&y, &z])?;
        match residual {
            Some(residual) => self.out_proj.forward_onto(r, &y, residual),
            None => self.out_proj.forward(r, &y),
        }
    }
}

//! The Mamba-1 mixer in one or two directions: in_proj → conv → x_proj → dt_proj → scan → out_proj.
//! Formulae and shapes: src/models/README.md, "Mamba mixer".

use super::init::Init;
use super::linear::Linear;
use super::params::{Params, Part};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Precision};
use crate::ops::scale::scale;
use crate::ops::selective_scan::{Scan, chan_layout};
use crate::ops::ssm::{Ssm, ssm};
use crate::tape::{Tape, Var};

/// Sizes and initial values of a mixer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixerConfig {
    /// Model width d.
    pub width: usize,
    /// States N per channel.
    pub states: usize,
    /// Taps of the causal convolution.
    pub conv: usize,
    /// Inner width over model width.
    pub expand: usize,
    /// Scan both ways.
    pub biscan: bool,
    /// Halve the sum of both ways (all but some old Vim checkpoints).
    pub divide_out: bool,
    /// Whether to initialize as the MAP repository does (xavier-uniform weights, `dt_proj.bias` 0) instead of as
    /// Mamba does (src/models/README.md, D-4).
    pub map_repo_init: bool,
    /// Factor on the initial out_proj (1/√depth in Vim and Mamba-R).
    pub out_scale: f32,
}

impl MixerConfig {
    /// Inner width E.
    pub fn inner(&self) -> usize {
        self.width * self.expand
    }
    /// Rank R of the step-size projection.
    pub fn rank(&self) -> usize {
        self.width.div_ceil(16)
    }
}

/// Parameters of a mixer; both directions of a kind are one variable.
#[derive(Debug, Clone)]
pub struct Mixer {
    in_proj: Linear,
    branch: Ssm,
    out_proj: Linear,
    /// The sum of both directions, not their mean.
    sum: bool,
}

impl Mixer {
    /// Parameters `name.*` under the names of official checkpoints (src/models/README.md, "Mixer parameters").
    pub fn new(params: &mut Params, name: &str, config: &MixerConfig) -> Result<Self> {
        let (d, e, n, r, k) = (config.width, config.inner(), config.states, config.rank(), config.conv);
        if n == 0 || n > 64 || k == 0 || k > 8 || config.expand == 0 {
            let got = format!("d_state {n}, d_conv {k}, expand {}", config.expand);
            return Err(Error::argument(name.to_owned(), got, "d_state 1 to 64, d_conv 1 to 8, expand at least 1"));
        }
        let s = if config.biscan { 2 } else { 1 };
        let names = |forward: &str, backward: &str| -> Vec<String> {
            [forward, backward][..s].iter().map(|leaf| format!("{name}.{leaf}")).collect()
        };
        let part = |names: Vec<String>, shape: &[usize], init| Part {
            inits: vec![init; names.len()],
            names,
            shape: shape.to_vec(),
        };
        let linear = if config.map_repo_init { Init::XavierUniform } else { Init::FanIn(1.0) };
        let out = if config.map_repo_init { Init::XavierUniform } else { Init::FanIn(config.out_scale) };
        let dt = if config.map_repo_init { Init::XavierUniform } else { Init::Uniform((r as f32).powf(-0.5)) };
        let dt_bias = if config.map_repo_init { Init::Zeros } else { Init::DtBias };
        let conv = Init::Uniform((k as f32).powf(-0.5));
        let layout = chan_layout(s, e, n);
        let chan = [
            part(names("A_log", "A_b_log"), &[e, n], Init::LogArange),
            part(names("D", "D_b"), &[e], Init::Ones),
            part(names("dt_proj.bias", "dt_proj_b.bias"), &[e], dt_bias),
        ];
        let conv_w = part(names("conv1d.weight", "conv1d_b.weight"), &[e, 1, k], conv);
        let conv_b = part(names("conv1d.bias", "conv1d_b.bias"), &[e], conv);
        let x_proj = part(names("x_proj.weight", "x_proj_b.weight"), &[r + 2 * n, e], linear);
        let dt_proj = part(names("dt_proj.weight", "dt_proj_b.weight"), &[e, r], dt);
        Ok(Self {
            in_proj: Linear::no_bias(params, &format!("{name}.in_proj"), d, 2 * e, linear)?,
            branch: Ssm {
                conv_w: params.pack(&[conv_w], &[s, e, k])?,
                conv_b: params.pack(&[conv_b], &[s, e])?,
                x_proj: params.pack(&[x_proj], &[s, r + 2 * n, e])?,
                dt_proj: params.pack(&[dt_proj], &[s, e, r])?,
                chan: params.pack(&chan, &[layout.len])?,
                scan: Scan::mamba(n),
            },
            out_proj: Linear::no_bias(params, &format!("{name}.out_proj"), e, d, out)?,
            sum: config.biscan && !config.divide_out,
        })
    }

    /// (B, L, D) → (B, L, D)
    pub fn forward(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        // in mixed precision what one token hands to the next kernel is f16; `scale` takes f32
        let [_, inner] = self.branch.conv_b.data.dims("mixer: conv_b")?;
        let half = g.precision() == Precision::Mixed && !self.sum && inner.is_multiple_of(4);
        let xz = if half { self.in_proj.forward_half(g, t, x)? } else { self.in_proj.forward(g, t, x)? }; // (B, L, 2E)
        let mut y = ssm(g, t, &xz, &self.branch)?; // (B, L, E), the mean over directions
        if self.sum {
            y = scale(g, t, &y, 2.0)?;
        }
        self.out_proj.forward(g, t, &y)
    }
}

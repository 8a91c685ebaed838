//! The Mamba-1 mixer in one or two directions: in_proj → conv → x_proj → dt_proj → scan → out_proj.
//! Formulae and shapes: src/models/README.md, "Mamba mixer".

use super::init::{Init, InitScheme};
use super::linear::Linear;
use super::params::{Params, Part};
use super::stored::stored;
use crate::error::{Error, Result};
use crate::gpu::DType;
use crate::ops::scale::scale;
use crate::ops::selective_scan::{Scan, channel_layout};
use crate::ops::ssm::{Ssm, ssm};
use crate::tape::{Recorder, Var};

/// Scan directions of a mixer, and how their outputs are joined before `out_proj`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Directions {
    /// First token to last only, as in Mamba (mamba-ssm).
    One,
    /// Both ways, the outputs added: `if_divide_out=False` in Vim's repository, for its old checkpoints.
    Sum,
    /// Both ways, half the sum: `if_divide_out=True`, as in HybridNet, Mamba-R and Vim.
    #[default]
    Mean,
}

/// Sizes and initial values of a mixer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MambaConfig {
    /// Width D: mamba-ssm's `d_model`.
    pub width: usize,
    /// States N of a channel: `d_state`.
    pub states: usize,
    /// Taps of the causal convolution: `d_conv`.
    pub conv: usize,
    /// Inner width E over D: `expand`.
    pub expand: usize,
    /// Which ways the scan runs, and how the two ways are joined.
    pub directions: Directions,
    /// Initial values as in Mamba, or as in the MAP repository (src/models/README.md, D-4).
    pub init: InitScheme,
    /// Factor on the initial `out_proj`: 1/√depth in Vim and Mamba-R.
    pub out_scale: f32,
}

impl MambaConfig {
    /// Inner width E.
    pub fn inner(&self) -> usize {
        self.width * self.expand
    }
    /// Rank R of the step-size projection: `dt_rank="auto"`.
    pub fn rank(&self) -> usize {
        self.width.div_ceil(16)
    }
}

/// The mixer of a Mamba layer: mamba-ssm's `Mamba`, with the second direction of Vim and Mamba-R. Both directions'
/// tensors of a kind are one variable, (2, E, 4) for example, so that one launch serves both.
#[derive(Debug, Clone)]
pub struct MambaMixer {
    in_proj: Linear,
    branch: Ssm,
    out_proj: Linear,
    /// Whether the two directions are added instead of averaged.
    sum: bool,
}

impl MambaMixer {
    /// Parameters `name.*` under the names of official checkpoints (src/models/README.md, "Mixer parameters").
    pub fn new(params: &mut Params, name: &str, config: &MambaConfig) -> Result<Self> {
        let (d, e, n, r, k) = (config.width, config.inner(), config.states, config.rank(), config.conv);
        if n == 0 || n > 64 || k == 0 || k > 8 || config.expand == 0 {
            let got = format!("d_state {n}, d_conv {k}, expand {}", config.expand);
            return Err(Error::argument(name.to_owned(), got, "d_state 1 to 64, d_conv 1 to 8, expand at least 1"));
        }
        let s = if config.directions == Directions::One { 1 } else { 2 };
        let part = |names: [&str; 2], shape: &[usize], init| Part {
            inits: vec![init; s],
            names: names[..s].iter().map(ToString::to_string).collect(),
            shape: shape.to_vec(),
        };
        let map_repo = config.init == InitScheme::MapRepo;
        let either = |ours: Init, theirs: Init| if map_repo { theirs } else { ours };
        let linear = either(Init::FanIn(1.0), Init::XavierUniform);
        let out = either(Init::FanIn(config.out_scale), Init::XavierUniform);
        let dt = either(Init::Uniform((r as f32).powf(-0.5)), Init::XavierUniform);
        let dt_bias = either(Init::DtBias, Init::Zeros);
        let conv = Init::Uniform((k as f32).powf(-0.5));
        let layout = channel_layout(s, e, n);
        let channel_params = [
            part(["A_log", "A_b_log"], &[e, n], Init::LogArange),
            part(["D", "D_b"], &[e], Init::Ones),
            part(["dt_proj.bias", "dt_proj_b.bias"], &[e], dt_bias),
        ];
        let conv_w = part(["conv1d.weight", "conv1d_b.weight"], &[e, 1, k], conv);
        let conv_b = part(["conv1d.bias", "conv1d_b.bias"], &[e], conv);
        let x_proj = part(["x_proj.weight", "x_proj_b.weight"], &[r + 2 * n, e], linear);
        let dt_proj = part(["dt_proj.weight", "dt_proj_b.weight"], &[e, r], dt);
        params.scope(name, |p| {
            Ok(Self {
                in_proj: Linear::no_bias(p, "in_proj", d, 2 * e, linear)?,
                branch: Ssm {
                    conv_w: p.pack(&[conv_w], &[s, e, k])?,
                    conv_b: p.pack(&[conv_b], &[s, e])?,
                    x_proj: p.pack(&[x_proj], &[s, r + 2 * n, e])?,
                    dt_proj: p.pack(&[dt_proj], &[s, e, r])?,
                    channel_params: p.pack(&channel_params, &[layout.len])?,
                    scan: Scan::mamba(n),
                },
                out_proj: Linear::no_bias(p, "out_proj", e, d, out)?,
                sum: config.directions == Directions::Sum,
            })
        })
    }

    /// x (B, L, D) → (B, L, D)
    pub fn forward(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        // u, delta and y are stored as xz is. Directions that are summed stay f32: `scale` reads nothing else.
        let [_, inner] = self.branch.conv_b.data.dims("mixer: conv_b")?;
        let dtype = if self.sum { DType::F32 } else { stored(r, inner) };
        let xz = self.in_proj.forward_as(r, x, dtype)?; // (B, L, 2E)
        let mut y = ssm(r, &xz, &self.branch)?; // (B, L, E), the mean over directions
        if self.sum {
            y = scale(r, &y, 2.0)?;
        }
        self.out_proj.forward(r, &y)
    }
}

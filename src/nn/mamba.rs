//! The Mamba-1 mixer in one or two directions: in_proj → conv → x_proj → dt_proj → scan → out_proj.
//! Formulae and shapes: src/models/README.md, "Mamba mixer".

use super::init::{Init, InitScheme};
use super::linear::Linear;
use super::params::{Params, Part};
use super::stored::stored;
use crate::error::{Error, Result};
use crate::gpu::DType;
use crate::ops::add::add;
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
    /// First token to last twice, the second time with the channels of x|z in reverse, and the outputs added: Mamba3D's
    /// C-SSM, `bimamba_type="v4"`.
    Channels,
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
    /// Of [`Directions::Channels`].
    second: Option<Ssm>,
    out_proj: Linear,
    /// Whether the two directions are added instead of averaged.
    sum: bool,
}

impl MambaMixer {
    /// Parameters `name.*` under the names of official checkpoints (src/models/README.md, "Mixer parameters").
    pub fn new(params: &mut Params, name: &str, config: &MambaConfig) -> Result<Self> {
        let (d, e) = (config.width, config.inner());
        let channels = config.directions == Directions::Channels;
        let s = if channels || config.directions == Directions::One { 1 } else { 2 };
        let map_repo = config.init == InitScheme::MapRepo;
        let either = |ours: Init, theirs: Init| if map_repo { theirs } else { ours };
        let linear = either(Init::FanIn(1.0), Init::XavierUniform);
        let out = either(Init::FanIn(config.out_scale), Init::XavierUniform);
        let steps = [either(Init::DtBias, Init::Zeros); 2];
        params.scope(name, |p| {
            Ok(Self {
                in_proj: Linear::no_bias(p, "in_proj", d, 2 * e, linear)?,
                branch: branch(p, config, &["", "_b"][..s], &steps[..s], false)?,
                second: channels.then(|| branch(p, config, &["_b"], &steps[..1], true)).transpose()?,
                out_proj: Linear::no_bias(p, "out_proj", e, d, out)?,
                sum: config.directions == Directions::Sum,
            })
        })
    }

    /// x (B, L, D) → (B, L, D)
    pub fn forward(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        // u, delta and y are stored as xz is. Directions that are summed stay f32: `scale` reads nothing else.
        let [_, inner] = self.branch.conv_b.data.dims("mixer: conv_b")?;
        let dtype = if self.sum || self.second.is_some() { DType::F32 } else { stored(r, inner) };
        let xz = self.in_proj.forward_as(r, x, dtype)?; // (B, L, 2E)
        let mut y = ssm(r, &xz, &self.branch)?; // (B, L, E), the mean over directions
        if let Some(second) = &self.second {
            let other = ssm(r, &xz, second)?;
            y = add(r, &y, &other)?;
        }
        if self.sum {
            y = scale(r, &y, 2.0)?;
        }
        self.out_proj.forward(r, &y)
    }
}

/// What stands between in_proj and out_proj, for one direction or for two that run against each other. The names of a
/// direction's parameters have its suffix, `conv1d_b.weight` and `A_b_log` for `_b`; `steps` are the initial values of
/// its step sizes.
///
/// With `reversed` it computes what the same parameters give on x|z with all channels in reverse, with the channels of
/// the result turned back. Channel c of that input is channel 2E−1−c: so x and z change places, and the parameters of
/// channels are seen in reverse. Nothing is moved.
pub(super) fn branch(
    p: &mut Params, config: &MambaConfig, suffixes: &[&str], steps: &[Init], reversed: bool,
) -> Result<Ssm> {
    let (e, n, r, k, s) = (config.inner(), config.states, config.rank(), config.conv, suffixes.len());
    if n == 0 || n > 64 || k == 0 || k > 8 || config.expand == 0 {
        let got = format!("d_state {n}, d_conv {k}, expand {}", config.expand);
        return Err(Error::argument(p.path().to_string(), got, "d_state 1 to 64, d_conv 1 to 8, expand at least 1"));
    }
    let part = |name: fn(&str) -> String, shape: &[usize], init: Init| Part {
        names: suffixes.iter().map(|suffix| name(suffix)).collect(),
        shape: shape.to_vec(),
        inits: vec![init; s],
        reversed: reversed.then_some(0),
    };
    let map_repo = config.init == InitScheme::MapRepo;
    let either = |ours: Init, theirs: Init| if map_repo { theirs } else { ours };
    let linear = either(Init::FanIn(1.0), Init::XavierUniform);
    let dt = either(Init::Uniform((r as f32).powf(-0.5)), Init::XavierUniform);
    let conv = Init::Uniform((k as f32).powf(-0.5));
    let channel_params = [
        part(|s| format!("A{s}_log"), &[e, n], Init::LogArange),
        part(|s| format!("D{s}"), &[e], Init::Ones),
        Part { inits: steps.to_vec(), ..part(|s| format!("dt_proj{s}.bias"), &[e], Init::Zeros) },
    ];
    let conv_w = part(|s| format!("conv1d{s}.weight"), &[e, 1, k], conv);
    let conv_b = part(|s| format!("conv1d{s}.bias"), &[e], conv);
    let x_proj = part(|s| format!("x_proj{s}.weight"), &[r + 2 * n, e], linear);
    let x_proj = Part { reversed: reversed.then_some(1), ..x_proj };
    let dt_proj = part(|s| format!("dt_proj{s}.weight"), &[e, r], dt);
    Ok(Ssm {
        conv_w: p.pack(&[conv_w], &[s, e, k])?,
        conv_b: p.pack(&[conv_b], &[s, e])?,
        x_proj: p.pack(&[x_proj], &[s, r + 2 * n, e])?,
        dt_proj: p.pack(&[dt_proj], &[s, e, r])?,
        channel_params: p.pack(&channel_params, &[channel_layout(s, e, n).len])?,
        scan: Scan { swapped: reversed, ..Scan::mamba(n) },
    })
}

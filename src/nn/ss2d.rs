//! VMamba's mixer of maps, SS2D: in_proj → depthwise convolution → scan in four directions → norm → out_proj. Formulae
//! and shapes: src/models/README.md, "VMamba".

use super::conv::{Conv2d, ConvConfig};
use super::init::Init;
use super::linear::Linear;
use super::norm::LayerNorm;
use super::params::{Params, Part};
use super::stored::stored;
use crate::error::{Error, Result};
use crate::gpu::DType;
use crate::ops::activation::silu;
use crate::ops::selective_scan::channel_layout;
use crate::ops::ss2d::{DIRECTIONS, Ss2d, ss2d};
use crate::tape::{Recorder, Var};

/// Sizes and initial values of an [`Ss2dMixer`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ss2dConfig {
    /// Width w of the map: VMamba's `d_model`.
    pub width: usize,
    /// Inner width E: ⌊`ssm_ratio`·w⌋.
    pub inner: usize,
    /// States N of a channel: `d_state`.
    pub states: usize,
    /// Epsilon of the norm behind the scan.
    pub eps: f32,
    /// Initial values of in_proj and out_proj.
    pub init: Init,
}

impl Ss2dConfig {
    /// Rank R of the step-size projection: `dt_rank="auto"`. It follows from the width of the map, not from the inner
    /// width.
    pub fn rank(&self) -> usize {
        self.width.div_ceil(16)
    }
}

/// The mixer: VMamba's `SS2D` of the form `v05_noz`, which has no gate.
#[derive(Debug, Clone)]
pub struct Ss2dMixer {
    in_proj: Linear,
    conv: Conv2d,
    scan: Ss2d,
    norm: LayerNorm,
    out_proj: Linear,
}

impl Ss2dMixer {
    /// Parameters `name.{in_proj, conv2d, out_norm, out_proj}` and `name.{x_proj_weight, dt_projs_weight, A_logs, Ds,
    /// dt_projs_bias}`, which have a first axis of four directions.
    pub fn new(params: &mut Params, name: &str, config: &Ss2dConfig) -> Result<Self> {
        let (w, e, n, r) = (config.width, config.inner, config.states, config.rank());
        if e == 0 || n == 0 || n > 64 {
            let got = format!("inner width {e}, d_state {n}");
            return Err(Error::argument(name.to_owned(), got, "an inner width of at least 1, d_state 1 to 64"));
        }
        let k = DIRECTIONS;
        let part = |name: &str, shape: &[usize], init| Part {
            names: vec![name.to_owned()],
            shape: shape.to_vec(),
            inits: vec![init],
            reversed: None,
        };
        let channel_params = [
            part("A_logs", &[k * e, n], Init::LogArange),
            part("Ds", &[k * e], Init::Ones),
            part("dt_projs_bias", &[k, e], Init::DtBias),
        ];
        let root = |n: usize| Init::Uniform((n as f32).powf(-0.5));
        let rows = r + 2 * n;
        params.scope(name, |p| {
            let in_proj = Linear::no_bias(p, "in_proj", w, e, config.init)?;
            let conv = Conv2d::new(p, "conv2d", ConvConfig::depthwise(e, 3, Init::FanIn(1.0)))?;
            let scan = Ss2d {
                x_proj: p.add("x_proj_weight", &[k, rows, e], &[k * rows, e], root(e))?,
                dt_proj: p.add("dt_projs_weight", &[k, e, r], &[k, e, r], root(r))?,
                channel_params: p.pack(&channel_params, &[channel_layout(k, e, n).len])?,
                states: n,
                algorithm: None,
            };
            let norm = LayerNorm::new(p, "out_norm", e, config.eps)?;
            Ok(Self { in_proj, conv, scan, norm, out_proj: Linear::no_bias(p, "out_proj", e, w, config.init)? })
        })
    }

    /// x (B, H, W, w) → (B, H, W, w), plus `residual` (B, H, W, w) if there is one.
    pub fn forward(&self, r: &mut Recorder, x: &Var, residual: Option<&Var>) -> Result<Var> {
        let dtype = stored(r, self.in_proj.weight.data.shape()[0]);
        let u = self.in_proj.forward_as(r, x, dtype)?; // (B, H, W, E)
        let u = self.conv.forward_as(r, &u, DType::F32)?; // the scan reads f32
        let u = silu(r, &u)?;
        let y = ss2d(r, &u, &self.scan)?; // the sum over directions
        let y = self.norm.operand(r, &y)?;
        match residual {
            Some(residual) => self.out_proj.forward_onto(r, &y, residual),
            None => self.out_proj.forward(r, &y),
        }
    }
}

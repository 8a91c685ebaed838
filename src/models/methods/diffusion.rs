//! MAP with MAR's diffusion loss (Li et al. 2024) in place of a squared error, as in Table 7 of MAP.
//!
//! The decoder's vector of a hidden patch is the condition of a small network that removes noise from its pixels
//! (src/models/README.md, "Diffusion loss").

use super::map::encoder;
use super::objective::Objective;
use super::region_decoder::{LINEAR, RegionDecoder};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::backbones::Backbone;
use crate::models::batch::Batch;
use crate::models::config::Config;
use crate::nn::{Init, LayerNorm, Linear, Params};
use crate::ops::activation::silu;
use crate::ops::diffusion::{Schedule, add_noise, diffusion, embed_time};
use crate::ops::matmul::Act;
use crate::ops::mlp::mlp;
use crate::ops::modulate::{gate, modulate};
use crate::ops::reshape::reshape;
use crate::ops::{layer_norm, mse_norm, reduce, rng, tokens};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// Steps from pixels to noise.
pub const STEPS: usize = 1000;
/// Cosines and sines that a step is embedded in.
const WAVES: usize = 256;
const EPS: f32 = 1e-6;
/// Streams of random numbers: noise levels and noise.
const LEVELS: u32 = 2;
const NOISE: u32 = 3;

/// Encoder, decoder and denoiser.
#[derive(Debug, Clone)]
pub struct Diffusion {
    encoder: Backbone,
    decoder: RegionDecoder,
    denoiser: Denoiser,
    schedule: Schedule,
    repeats: usize,
    normalise: bool,
}

impl Diffusion {
    /// Parameters under the names of MAP and, for the denoiser, of MAR (`diffloss.net`).
    pub fn new(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Self> {
        Ok(Self {
            encoder: encoder(g, params, config)?,
            decoder: RegionDecoder::new(g, params, config, objective)?,
            denoiser: Denoiser::new(g, params, config.patch_len(), config.decoder.width, objective)?,
            schedule: Schedule::cosine(g, STEPS, WAVES)?,
            repeats: objective.diffusion_repeats,
            normalise: objective.normalize(),
        })
    }

    /// The encoder.
    pub fn encoder(&self) -> &Backbone {
        &self.encoder
    }

    /// The noise levels.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The loss, one number: each counted patch at several levels of noise, drawn by `state`.
    pub fn forward(&self, g: &Gpu, t: &mut Tape, batch: &Batch, keep: Option<&Tensor>, state: &Tensor) -> Result<Var> {
        let condition = self.condition(g, t, batch, keep)?; // (n, d)
        let _scope = g.scope("diffloss");
        let x0 = self.pixels(g, t, batch)?; // (n, C)
        let (n, c, r) = (x0.shape()[0], x0.shape()[1], self.repeats);
        let times = rng::below(g, state, LEVELS, STEPS as u32, &[r, n])?;
        let noise = rng::normal(g, state, NOISE, &[r, n, c])?;
        let noised = add_noise(g, &self.schedule, &x0, &noise, &times)?; // (R, n, C)
        let pred = self.predict(g, t, &noised, &times, &condition)?; // (R, n, C or 2C)
        let rows = diffusion(g, t, &self.schedule, &pred, &x0, &noise, &times)?; // (R, n)
        reduce::sum(g, t, &rows)
    }

    /// What the decoder says of the n counted patches of a batch: (n, d).
    pub fn condition(&self, g: &Gpu, t: &mut Tape, batch: &Batch, keep: Option<&Tensor>) -> Result<Var> {
        let features = self.encoder.encode_visible(g, t, batch, keep)?; // (B, V, D)
        let _scope = g.scope("decoder");
        let z = self.decoder.forward(g, t, &features, batch)?; // (B, L, d)
        counted(g, t, &z, batch)
    }

    /// The network at work: noised (R, n, C), levels (R, n), condition (n, d) → noise, and variances unless they are fixed.
    pub fn predict(&self, g: &Gpu, t: &mut Tape, noised: &Tensor, times: &Tensor, condition: &Var) -> Result<Var> {
        let waves = embed_time(g, &self.schedule, times)?; // (R, n, F)
        self.denoiser.forward(g, t, &Var::constant(noised.clone()), &Var::constant(waves), condition)
    }

    /// Whether the pixels are normalised.
    pub fn normalise(&self) -> bool {
        self.normalise
    }

    /// The squared error of predicted patches x (n, C): a share of the mean for each, (n).
    pub fn squared_error(&self, g: &Gpu, batch: &Batch, x: &Tensor) -> Result<Var> {
        let t = &mut Tape::off();
        let patches = counted(g, t, &Var::constant(batch.patches.clone()), batch)?;
        let n = x.shape()[0];
        let all = Tensor::from_slice(g, &[n], &vec![1.0; n])?;
        let x = Var::constant(x.clone());
        mse_norm::mse_norm(g, t, &x, &patches.data, &all, 3, 1.0 / n as f32, self.normalise)
    }

    /// The counted patches as the network is to predict them: (n, C).
    fn pixels(&self, g: &Gpu, t: &mut Tape, batch: &Batch) -> Result<Tensor> {
        let patches = counted(g, t, &Var::constant(batch.patches.clone()), batch)?;
        mse_norm::target(g, &patches.data, 3, self.normalise)
    }
}

/// Rows of the counted tokens: x (B, L, D) → (n, D).
fn counted(g: &Gpu, t: &mut Tape, x: &Var, batch: &Batch) -> Result<Var> {
    let Some((ids, inverse)) = &batch.counted else {
        return Err(Error::argument("batch", "no table of counted tokens", "one for the diffusion loss"));
    };
    let x = tokens::gather(g, t, x, ids, inverse)?; // (B, M, D)
    let [b, m, d] = x.data.dims("counted tokens")?;
    if x.id() == 0 { Ok(Var::constant(x.data.reshape(&[b * m, d])?)) } else { reshape(g, t, &x, &[b * m, d]) }
}

/// MAR's `SimpleMLPAdaLN`.
#[derive(Debug, Clone)]
struct Denoiser {
    time: [Linear; 2],
    condition: Linear,
    input: Linear,
    blocks: Vec<Residual>,
    modulation: Linear,
    output: Linear,
    /// Weight and bias of a norm without either.
    plain: [Var; 2],
}

/// x + gate·mlp(norm(x)·(1 + scale) + shift)
#[derive(Debug, Clone)]
struct Residual {
    norm: LayerNorm,
    mlp: [Linear; 2],
    modulation: Linear,
}

impl Denoiser {
    fn new(g: &Gpu, params: &mut Params, pixels: usize, condition: usize, objective: &Objective) -> Result<Self> {
        let w = objective.diffusion_width;
        let mut linear = |name: &str, inputs: usize, outputs: usize, init: Init| {
            Linear::new(params, &format!("diffloss.net.{name}"), inputs, outputs, init)
        };
        let small = Init::Normal(0.02);
        let time = [linear("time_embed.mlp.0", WAVES, w, small)?, linear("time_embed.mlp.2", w, w, small)?];
        let condition = linear("cond_embed", condition, w, LINEAR)?;
        let input = linear("input_proj", pixels, w, LINEAR)?;
        let modulation = linear("final_layer.adaLN_modulation.1", w, 2 * w, Init::Zeros)?;
        let outputs = if objective.vlb { 2 * pixels } else { pixels };
        let output = linear("final_layer.linear", w, outputs, Init::Zeros)?;
        let block = |i| Residual::new(params, &format!("diffloss.net.res_blocks.{i}"), w);
        let blocks = (0..objective.diffusion_depth).map(block).collect::<Result<_>>()?;
        let constant = |value: f32| Tensor::from_slice(g, &[w], &vec![value; w]).map(Var::constant);
        Ok(Self { time, condition, input, blocks, modulation, output, plain: [constant(1.0)?, constant(0.0)?] })
    }

    /// x (R, n, C), waves (R, n, F), condition (n, d) → (R, n, C or 2C)
    fn forward(&self, g: &Gpu, t: &mut Tape, x: &Var, waves: &Var, condition: &Var) -> Result<Var> {
        let [time_0, time_2] = &self.time;
        let time = mlp(g, t, waves, time_0.layer(), Act::Silu, time_2.layer(), None)?; // (R, n, w)
        let condition = self.condition.forward(g, t, condition)?; // (n, w)
        let y = tokens::add_positions(g, t, &time, &condition)?; // (R, n, w)
        let y = silu(g, t, &y)?;
        let mut x = self.input.forward(g, t, x)?; // (R, n, w)
        for block in &self.blocks {
            let (block, y) = (block.clone(), y.clone());
            [x] = t.segment(g, move |g, t| Ok([block.forward(g, t, &x, &y)?]))?;
        }
        let m = self.modulation.forward(g, t, &y)?; // (R, n, 2w)
        let [one, zero] = &self.plain;
        let x = layer_norm::layer_norm(g, t, &x, None, None, one, zero, EPS)?.0;
        let x = modulate(g, t, &x, &m)?;
        self.output.forward(g, t, &x)
    }
}

impl Residual {
    fn new(params: &mut Params, name: &str, w: usize) -> Result<Self> {
        let mut linear =
            |part: &str, outputs: usize, init: Init| Linear::new(params, &format!("{name}.{part}"), w, outputs, init);
        let mlp = [linear("mlp.0", w, LINEAR)?, linear("mlp.2", w, LINEAR)?];
        let modulation = linear("adaLN_modulation.1", 3 * w, Init::Zeros)?;
        Ok(Self { norm: LayerNorm::new(params, &format!("{name}.in_ln"), w, EPS)?, mlp, modulation })
    }

    /// x, y (R, n, w) → (R, n, w)
    fn forward(&self, g: &Gpu, t: &mut Tape, x: &Var, y: &Var) -> Result<Var> {
        let m = self.modulation.forward(g, t, y)?; // (R, n, 3w)
        let h = self.norm.forward(g, t, x)?;
        let h = modulate(g, t, &h, &m)?;
        let [mlp_0, mlp_2] = &self.mlp;
        let h = mlp(g, t, &h, mlp_0.layer(), Act::Silu, mlp_2.layer(), None)?;
        gate(g, t, x, &h, &m)
    }
}

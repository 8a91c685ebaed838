//! MAP with MAR's diffusion loss (Li et al. 2024) in place of a squared error, as in Table 7 of MAP.
//!
//! The vector that the decoder gives for a hidden patch is the condition of a small network, which removes noise from
//! the patch's pixels (src/models/README.md, "Diffusion loss").

use std::sync::Arc;

use super::map::encoder;
use super::objective::{Method, MethodFacts, Objective};
use super::pretext::{Denoiser, Pretext, StepResult};
use super::region_decoder::{LINEAR, RegionDecoder};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::backbones::Backbone;
use crate::models::batch::MaskedBatch;
use crate::models::config::Config;
use crate::nn::{Init, LayerNorm, Linear, Params, stored};
use crate::ops::activation::silu;
use crate::ops::diffusion::{NoiseSchedule, add_noise, diffusion, embed_time};
use crate::ops::matmul::Act;
use crate::ops::mlp::{MlpOptions, mlp};
use crate::ops::modulate::{gate, modulate};
use crate::ops::mse_norm::MseNormOptions;
use crate::ops::norm::{NormOptions, layer_norm};
use crate::ops::reshape::reshape;
use crate::ops::{mse_norm, reduce, rng, tokens};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

impl Method {
    /// MAP with a diffusion loss in place of a squared error.
    pub const DIFFUSION: Self = Self(&MethodFacts {
        name: "diffusion",
        check: |objective, config| objective.check_decoder(config, false),
        ..MethodFacts::PLAIN
    });
}

/// Steps from pixels to noise.
pub const STEPS: usize = 1000;
/// Cosines and sines that embed a step, half of the number each.
const WAVES: usize = 256;
const EPS: f32 = 1e-6;
/// Streams of random numbers, for noise levels and for noise.
const LEVELS: u32 = 2;
const NOISE: u32 = 3;

/// Encoder, decoder and denoising network.
#[derive(Debug, Clone)]
pub struct Diffusion {
    encoder: Backbone,
    decoder: RegionDecoder,
    net: DenoisingNet,
    schedule: NoiseSchedule,
    objective: Objective,
}

impl Diffusion {
    /// Parameters under the names of MAP and, for the denoising network, of MAR (`diffloss.net`).
    pub fn new(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Self> {
        Ok(Self {
            encoder: encoder(g, params, config)?,
            decoder: RegionDecoder::new(g, params, config, objective)?,
            net: params.scope("diffloss.net", |p| {
                DenoisingNet::new(g, p, config.patch_len(), config.decoder.width, objective)
            })?,
            schedule: NoiseSchedule::cosine(g, STEPS, WAVES)?,
            objective: objective.clone(),
        })
    }
}

impl Pretext for Diffusion {
    fn method(&self) -> Method {
        self.objective.method
    }

    fn encoder(&self) -> &Backbone {
        &self.encoder
    }

    fn reads_counted(&self) -> bool {
        true
    }

    fn normalize(&self) -> Option<f32> {
        self.objective.normalize()
    }

    fn denoiser(&self) -> Option<&dyn Denoiser> {
        Some(self)
    }

    /// The loss of each counted patch at several levels of noise, which are drawn by `state`.
    fn forward(
        &self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>, state: &Tensor,
    ) -> Result<StepResult> {
        let condition = self.condition(r, batch, drop_path)?; // (n, d)
        r.scope(&self.net.name, |r| {
            let patches = counted(r, &Var::constant(batch.patches.clone()), batch)?;
            let x0 = mse_norm::target(r, &patches.data, 3, self.normalize())?; // (n, C)
            let (n, c, repeats) = (x0.shape()[0], x0.shape()[1], self.objective.diffusion_repeats);
            let times = rng::below(r, state, LEVELS, STEPS as u32, &[repeats, n])?;
            let noise = rng::normal(r, state, NOISE, &[repeats, n, c])?;
            let noised = add_noise(r, &self.schedule, &x0, &noise, &times)?; // (R, n, C)
            let pred = self.denoise(r, &noised, &times, &condition)?; // (R, n, C or 2C)
            let rows = diffusion(r, &self.schedule, &pred, &x0, &noise, &times)?; // (R, n)
            Ok(StepResult::of(reduce::sum(r, &rows)?))
        })
    }
}

impl Denoiser for Diffusion {
    fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    fn condition(&self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>) -> Result<Var> {
        let features = self.encoder.encode_visible(r, batch, drop_path)?; // (B, V, D)
        let z = self.decoder.forward(r, &features, batch)?; // (B, L, d)
        counted(r, &z, batch)
    }

    fn denoise(&self, r: &mut Recorder, noised: &Tensor, times: &Tensor, condition: &Var) -> Result<Var> {
        let waves = embed_time(r, &self.schedule, times)?; // (R, n, F)
        self.net.forward(r, &Var::constant(noised.clone()), &Var::constant(waves), condition)
    }

    fn squared_error(&self, r: &mut Recorder, batch: &MaskedBatch, x: &Tensor) -> Result<Var> {
        let patches = counted(r, &Var::constant(batch.patches.clone()), batch)?;
        let n = x.shape()[0];
        let all = Tensor::from_slice(r.gpu(), &[n], &vec![1.0; n])?;
        let x = Var::constant(x.clone());
        let options =
            MseNormOptions { scale: 1.0 / n as f32, normalize: self.normalize(), ..MseNormOptions::default() };
        mse_norm::mse_norm(r, &x, &patches.data, &all, options)
    }
}

/// Rows of the counted tokens: x (B, L, D) → (n, D).
fn counted(r: &mut Recorder, x: &Var, batch: &MaskedBatch) -> Result<Var> {
    let Some((ids, inverse)) = &batch.counted else {
        return Err(Error::argument("batch", "no table of counted tokens", "one for the diffusion loss"));
    };
    let x = tokens::gather(r, x, ids, inverse)?; // (B, M, D)
    let [b, m, d] = x.data.dims("counted tokens")?;
    reshape(r, &x, &[b * m, d])
}

/// The denoising network: MAR's `SimpleMLPAdaLN`.
#[derive(Debug, Clone)]
struct DenoisingNet {
    /// `diffloss.net`
    name: Arc<str>,
    time: [Linear; 2],
    condition: Linear,
    input: Linear,
    blocks: Vec<Residual>,
    modulation: Linear,
    output: Linear,
    /// Ones and zeros (w): a layer norm without weights, `elementwise_affine=False`.
    plain: [Var; 2],
}

/// x + gate·mlp(norm(x)·(1 + scale) + shift): MAR's `ResBlock`.
#[derive(Debug, Clone)]
struct Residual {
    norm: LayerNorm,
    mlp: [Linear; 2],
    modulation: Linear,
}

impl DenoisingNet {
    fn new(g: &Gpu, params: &mut Params, pixels: usize, condition: usize, objective: &Objective) -> Result<Self> {
        let w = objective.diffusion_width;
        let name = params.path();
        let mut linear =
            |name: &str, inputs: usize, outputs: usize, init: Init| Linear::new(params, name, inputs, outputs, init);
        let small = Init::Normal(0.02);
        let time = [linear("time_embed.mlp.0", WAVES, w, small)?, linear("time_embed.mlp.2", w, w, small)?];
        let condition = linear("cond_embed", condition, w, LINEAR)?;
        let input = linear("input_proj", pixels, w, LINEAR)?;
        let modulation = linear("final_layer.adaLN_modulation.1", w, 2 * w, Init::Zeros)?;
        let outputs = if objective.vlb { 2 * pixels } else { pixels };
        let output = linear("final_layer.linear", w, outputs, Init::Zeros)?;
        let block = |i| params.scope(&format!("res_blocks.{i}"), |p| Residual::new(p, w));
        let blocks = (0..objective.diffusion_depth).map(block).collect::<Result<_>>()?;
        let constant = |value: f32| Tensor::from_slice(g, &[w], &vec![value; w]).map(Var::constant);
        Ok(Self { name, time, condition, input, blocks, modulation, output, plain: [constant(1.0)?, constant(0.0)?] })
    }

    /// x (R, n, C), waves (R, n, F), condition (n, d) → (R, n, C or 2C)
    fn forward(&self, r: &mut Recorder, x: &Var, waves: &Var, condition: &Var) -> Result<Var> {
        let time = silu_mlp(r, waves, &self.time)?; // (R, n, w)
        let condition = self.condition.forward(r, condition)?; // (n, w)
        let y = tokens::add_positions(r, &time, &condition)?; // (R, n, w)
        let y = silu(r, &y)?;
        let mut x = self.input.forward(r, x)?; // (R, n, w)
        for block in &self.blocks {
            let (block, y) = (block.clone(), y.clone());
            [x] = r.segment(move |r| Ok([block.forward(r, &x, &y)?]))?;
        }
        let m = self.modulation.forward(r, &y)?; // (R, n, 2w)
        let [one, zero] = &self.plain;
        let x = layer_norm(r, &x, one, zero, NormOptions::eps(EPS))?.0;
        let x = modulate(r, &x, &m)?;
        self.output.forward(r, &x)
    }
}

/// x (.., K) → (.., w): SiLU between two linear layers.
fn silu_mlp(r: &mut Recorder, x: &Var, [first, second]: &[Linear; 2]) -> Result<Var> {
    let hidden = stored(r, first.weight.data.shape()[0]);
    mlp(r, x, first.layer(), second.layer(), MlpOptions { hidden, ..MlpOptions::act(Act::Silu) })
}

impl Residual {
    fn new(params: &mut Params, w: usize) -> Result<Self> {
        let mut linear = |name: &str, outputs: usize, init: Init| Linear::new(params, name, w, outputs, init);
        let mlp = [linear("mlp.0", w, LINEAR)?, linear("mlp.2", w, LINEAR)?];
        let modulation = linear("adaLN_modulation.1", 3 * w, Init::Zeros)?;
        Ok(Self { norm: LayerNorm::new(params, "in_ln", w, EPS)?, mlp, modulation })
    }

    /// x, y (R, n, w) → (R, n, w)
    fn forward(&self, r: &mut Recorder, x: &Var, y: &Var) -> Result<Var> {
        let m = self.modulation.forward(r, y)?; // (R, n, 3w)
        let h = self.norm.forward(r, x)?;
        let h = modulate(r, &h, &m)?;
        let h = silu_mlp(r, &h, &self.mlp)?;
        gate(r, x, &h, &m)
    }
}

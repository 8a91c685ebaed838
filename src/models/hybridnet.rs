//! HybridNet (MAP, CVPR 2025, section 3; spec 2.1–2.4): Mamba layers with transformer blocks between them.
//!
//! Two streams run through the network: `hidden`, what the last layer said, and `residual`, the sum of all before.
//! A Mamba layer adds hidden to residual, normalises, and mixes; a transformer block acts on hidden alone.

use super::config::{Config, InitScheme};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::nn::{Block, Init, Linear, Mixer, MixerConfig, Params, RmsNorm};
use crate::ops;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

const EPS: f32 = 1e-5;

#[derive(Debug, Clone)]
enum Layer {
    Mamba { name: String, norm: RmsNorm, mixer: Box<Mixer> },
    Transformer { name: String, block: Box<Block> },
}

/// The encoder with the classifier's registers, neck and head, which pretraining leaves untouched.
#[derive(Debug, Clone)]
pub struct HybridNet {
    config: Config,
    patch_embed: Linear,
    pos_embed: Var,
    layers: Vec<Layer>,
    norm_f: RmsNorm,
}

impl HybridNet {
    /// Parameters under their official names (spec 8).
    pub fn new(params: &mut Params, config: &Config) -> Result<Self> {
        config.validate()?;
        let (d, p) = (config.width, config.patch_size);
        let map_repo = config.init == InitScheme::MapRepo;
        let embedding = Init::TruncNormal(0.02);
        let linear = if map_repo { Init::XavierUniform } else { Init::TruncNormal(0.02) };
        let patch_embed = Linear {
            weight: params.add("patch_embed.proj.weight", &[d, 3, p, p], &[d, 3 * p * p], Init::LecunNormal)?,
            bias: Some(params.add("patch_embed.proj.bias", &[d], &[d], Init::Zeros)?),
        };
        let tokens = config.tokens();
        let pos_embed = params.add("pos_embed", &[1, tokens, d], &[tokens, d], embedding)?;
        let mixer = MixerConfig {
            width: d,
            states: config.states,
            conv: config.conv,
            expand: config.expand,
            biscan: true,
            map_repo_init: map_repo,
            out_scale: (config.depth().max(1) as f32).powf(-0.5),
        };
        let (mut layers, mut mambas, mut blocks) = (Vec::new(), 0, 0);
        for letter in config.pattern.chars() {
            if letter == 'M' {
                let name = format!("layers.{mambas}");
                let norm = RmsNorm::new(params, &format!("{name}.norm"), d, EPS)?;
                let mixer = Box::new(Mixer::new(params, &format!("{name}.mixer"), &mixer)?);
                layers.push(Layer::Mamba { name, norm, mixer });
                mambas += 1;
            } else {
                let name = format!("blocks.{blocks}");
                let block = Box::new(Block::new(params, &name, d, config.heads, config.mlp_hidden(), EPS, linear)?);
                layers.push(Layer::Transformer { name, block });
                blocks += 1;
            }
        }
        let norm_f = RmsNorm::new(params, "norm_f", d, EPS)?;
        classifier(params, config, embedding, if map_repo { Init::XavierUniform } else { embedding })?;
        Ok(Self { config: config.clone(), patch_embed, pos_embed, layers, norm_f })
    }

    /// Patch rows of the visible tokens (B, V, P·P·3), in conv order → embedded tokens with positions (B, V, D).
    pub fn embed(&self, g: &Gpu, t: &mut Tape, patches: &Var, ids: &Tensor, inverse: &Tensor) -> Result<Var> {
        let _scope = g.scope("patch_embed");
        let x = self.patch_embed.forward(g, t, patches)?;
        ops::tokens::embed(g, t, &x, &self.pos_embed, ids, inverse)
    }

    /// Embedded tokens (B, L, D) → normalised features (B, L, D). Row `i` of `keep` holds DropPath's draws (B) for the
    /// hidden that enters Mamba layer `i`, the last row those of the final add; without it nothing is dropped.
    pub fn encode(&self, g: &Gpu, t: &mut Tape, tokens: &Var, keep: Option<&Tensor>) -> Result<Var> {
        let batch = tokens.data.shape()[0];
        let draws = |i: usize| match keep {
            Some(keep) if i > 0 => {
                let [_, stride] = keep.dims("keep")?;
                keep.range(i * stride, &[batch]).map(Some)
            }
            _ => Ok(None),
        };
        let mut hidden = tokens.clone();
        let mut residual = None;
        let mut mambas = 0;
        for layer in &self.layers {
            match layer {
                Layer::Mamba { name, norm, mixer } => {
                    let _scope = g.scope(name);
                    let (normed, sum) = norm.add(g, t, &hidden, residual.as_ref(), draws(mambas)?.as_ref())?;
                    hidden = mixer.forward(g, t, &normed)?;
                    residual = Some(sum);
                    mambas += 1;
                }
                Layer::Transformer { name, block } => {
                    let _scope = g.scope(name);
                    let mixed = block.forward(g, t, &hidden)?;
                    hidden = if self.config.extra_residual { ops::add::add(g, t, &hidden, &mixed)? } else { mixed };
                }
            }
        }
        let _scope = g.scope("norm_f");
        Ok(self.norm_f.add(g, t, &hidden, residual.as_ref(), draws(mambas)?.as_ref())?.0)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// Registers with their positions, neck and head: in the weights, though pretraining does not run them.
fn classifier(params: &mut Params, config: &Config, embedding: Init, linear: Init) -> Result<()> {
    let (d, n, r) = (config.width, config.registers, config.cls_reduce);
    let features = n * (d / r);
    let plain = |params: &mut Params, name: &str, shape: &[usize], init| params.add(name, shape, shape, init).map(drop);
    if n > 0 {
        plain(params, "cls_token", &[1, n, d], embedding)?;
        plain(params, "pos_embed_cls", &[1, n, d], embedding)?;
    }
    if n > 0 && r > 1 {
        plain(params, "neck.weight", &[d / r, d], linear)?;
        plain(params, "norm_neck.weight", &[features], Init::Ones)?;
    }
    if n > 0 && config.classes > 0 {
        plain(params, "head.weight", &[config.classes, features], linear)?;
        plain(params, "head.bias", &[config.classes], Init::Zeros)?;
    }
    Ok(())
}

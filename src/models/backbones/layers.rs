//! Mamba layers and transformer blocks in any order (src/models/README.md, "Mamba layers" and "Layer patterns").
//!
//! Two streams run through the network: `hidden` is the output of the last layer, and `residual` is the sum of the
//! outputs before it. A Mamba layer adds hidden to residual, normalizes the sum, and mixes it. A transformer block acts
//! on hidden alone.

use std::sync::Arc;

use super::encoder::last_of_parts;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::config::Config;
use crate::models::dense::Dense;
use crate::nn::{
    Block, BlockConfig, Directions, MambaConfig, MambaMixer, Params, ResidualNorm, Sight, Weights, WindowPartition,
};
use crate::ops;
use crate::ops::attention::Regions;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Epsilon of the transformer blocks between Mamba layers.
const EPS: f32 = 1e-5;

#[derive(Debug, Clone)]
enum Layer {
    Mamba { name: Arc<str>, norm: ResidualNorm, mixer: Box<MambaMixer> },
    Transformer(Box<Block>),
}

/// The layers of `Config::pattern` and the norm behind them.
#[derive(Debug, Clone)]
pub struct Layers {
    layers: Vec<Layer>,
    norm_f: ResidualNorm,
    extra_residual: bool,
    sights: Sights,
}

impl Layers {
    /// Parameters `layers.i` (Mamba), `blocks.k` (transformer) and `norm_f`.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let d = config.width;
        let mixer = MambaConfig {
            width: d,
            states: config.states,
            conv: config.conv,
            expand: config.expand,
            directions: config.directions,
            init: config.init,
            out_scale: (config.depth().max(1) as f32).powf(-0.5),
        };
        let block = BlockConfig {
            width: d,
            heads: config.heads,
            hidden: config.mlp_hidden(),
            eps: EPS,
            qkv_bias: config.qkv_bias,
            init: config.linear_init(),
        };
        let (mut layers, mut mambas, mut blocks) = (Vec::new(), 0, 0);
        for letter in config.pattern.chars() {
            if letter == 'M' {
                layers.push(params.scope(&format!("layers.{mambas}"), |p| {
                    let norm = ResidualNorm::new(p, "norm", d, config.eps(), config.rms_norm)?;
                    let mixer = Box::new(MambaMixer::new(p, "mixer", &mixer)?);
                    Ok(Layer::Mamba { name: p.path(), norm, mixer })
                })?);
                mambas += 1;
            } else {
                layers.push(Layer::Transformer(Box::new(Block::new(params, &format!("blocks.{blocks}"), &block)?)));
                blocks += 1;
            }
        }
        let norm_f = ResidualNorm::new(params, "norm_f", d, config.eps(), config.rms_norm)?;
        Ok(Self { layers, norm_f, extra_residual: config.extra_residual, sights: Sights::new(g, config)? })
    }

    /// Embedded tokens (B, L, D) → normalized features (B, L, D). Row `i` of `drop_path` has DropPath's factors (B) for
    /// the hidden that enters Mamba layer `i`, and the last row those of the final addition.
    pub fn forward(&self, r: &mut Recorder, tokens: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let (hidden, residual, last) = self.streams(r, tokens, drop_path, |_, _, _, _| Ok(()))?;
        r.scope(self.norm_f.name(), |r| Ok(self.norm_f.add(r, &hidden, residual.as_ref(), last.as_ref())?.0))
    }

    /// Mamba layers.
    pub fn depth(&self) -> usize {
        self.layers.iter().filter(|layer| matches!(layer, Layer::Mamba { .. })).count()
    }

    /// Embedded tokens (B, L, D) → what leaves these Mamba layers and the transformer blocks behind each: the sum of
    /// both streams, (B, L, D), without the last norm. `after` ascends.
    pub fn outputs_of(
        &self, r: &mut Recorder, tokens: &Var, drop_path: Option<&Tensor>, after: &[usize],
    ) -> Result<Vec<Var>> {
        let mut outputs = Vec::new();
        self.streams(r, tokens, drop_path, |r, layer, hidden, residual| {
            if after.contains(&layer) {
                outputs.push(ops::add::add(r, hidden, residual)?);
            }
            Ok(())
        })?;
        Ok(outputs)
    }

    /// Runs all layers. `left` is told of both streams behind each Mamba layer and the transformer blocks that follow
    /// it. Returns both, and the factors (B) of DropPath for their sum.
    fn streams(
        &self, r: &mut Recorder, tokens: &Var, drop_path: Option<&Tensor>,
        mut left: impl FnMut(&mut Recorder, usize, &Var, &Var) -> Result<()>,
    ) -> Result<(Var, Option<Var>, Option<Tensor>)> {
        let batch = tokens.data.shape()[0];
        let blocks = self.layers.iter().filter(|layer| matches!(layer, Layer::Transformer(_))).count();
        let mut sights = self.sights.of(r, tokens, blocks)?.into_iter();
        // no layer precedes layer 0
        let factors = |i: usize| if i == 0 { Ok(None) } else { drop_path_row(drop_path, i, batch) };
        let mut hidden = tokens.clone();
        let mut residual = None;
        let mut mambas = 0;
        for layer in &self.layers {
            match layer {
                Layer::Mamba { name, norm, mixer } => {
                    if let Some(residual) = &residual {
                        left(r, mambas - 1, &hidden, residual)?;
                    }
                    let (norm, mixer, drop_path) = (norm.clone(), mixer.clone(), factors(mambas)?);
                    let mamba = move |r: &mut Recorder| {
                        let (normed, sum) = norm.add_operand(r, &hidden, residual.as_ref(), drop_path.as_ref())?;
                        Ok([mixer.forward(r, &normed)?, sum])
                    };
                    let [mixed, sum] = r.scope(name, |r| r.segment(mamba))?;
                    (hidden, residual) = (mixed, Some(sum));
                    mambas += 1;
                }
                Layer::Transformer(block) => {
                    let (name, block, extra) = (block.name.clone(), block.clone(), self.extra_residual);
                    let sight = sights.next().unwrap_or(Sight::All);
                    let transformer = move |r: &mut Recorder| {
                        let mixed = block.forward_seeing(r, &hidden, None, &sight)?;
                        Ok([if extra { ops::add::add(r, &hidden, &mixed)? } else { mixed }])
                    };
                    [hidden] = r.scope(&name, |r| r.segment(transformer))?;
                }
            }
        }
        if let Some(residual) = &residual {
            left(r, mambas - 1, &hidden, residual)?;
        }
        Ok((hidden, residual, factors(mambas)?))
    }
}

/// What the tokens of a network attend to in its transformer blocks.
#[derive(Debug, Clone)]
pub(super) struct Sights {
    /// Whether no token sees those behind it.
    one_way: bool,
    /// The windows of a detector's backbone.
    windows: Option<WindowPartition>,
}

impl Sights {
    pub fn new(g: &Gpu, config: &Config) -> Result<Self> {
        let side = config.dense.as_ref().map_or(0, Dense::window);
        let size = [config.grid(), config.grid_columns()];
        let windows = if side > 0 { Some(WindowPartition::new(g, size, side)?) } else { None };
        Ok(Self { one_way: config.directions == Directions::One, windows })
    }

    /// Those of tokens (B, L, D) in each of `blocks` blocks. With windows the last block of each quarter sees all, and
    /// all of fewer than four do.
    pub fn of(&self, r: &Recorder, tokens: &Var, blocks: usize) -> Result<Vec<Sight>> {
        let [_, l, _] = tokens.data.dims("tokens")?;
        let wide = if self.one_way { Sight::Causal(Regions::tokens(r.gpu(), l)?) } else { Sight::All };
        let last = last_of_parts(blocks, 4);
        let each = |block: usize| match &self.windows {
            Some(windows) if blocks >= 4 && !last.contains(&block) => Sight::Window(windows.clone()),
            _ => wide.clone(),
        };
        Ok((0..blocks).map(each).collect())
    }
}

/// A checkpoint whose mixers scan one way has their other directions, whose names have these suffixes, start with the
/// same weights. One that has another direction already is left as it is.
pub(super) fn copy_directions(suffixes: &[&str], weights: &mut Weights, has: &dyn Fn(&str) -> bool) {
    let mixers = weights.iter().filter(|(name, _)| name.starts_with("layers.") && name.contains(".mixer."));
    let mut copies = Vec::new();
    for (name, tensor) in mixers {
        let Some((mixer, rest)) = name.split_once(".mixer.") else { continue };
        for suffix in suffixes {
            let copy = match rest.split_once('.') {
                _ if rest == "A_log" => format!("A{suffix}_log"),
                _ if rest == "D" => format!("D{suffix}"),
                Some((kind @ ("conv1d" | "x_proj" | "dt_proj"), leaf)) => format!("{kind}{suffix}.{leaf}"),
                _ => continue,
            };
            copies.push((format!("{mixer}.mixer.{copy}"), tensor.clone()));
        }
    }
    if !copies.iter().any(|(name, _)| weights.contains_key(name)) {
        weights.extend(copies.into_iter().filter(|(name, _)| has(name)));
    }
}

/// [`copy_directions`] of mixers that scan both ways.
pub(super) fn from_one_way(weights: &mut Weights, has: &dyn Fn(&str) -> bool) {
    copy_directions(&["_b"], weights, has);
}

/// The places of DropPath in [`Layers`]: `layers.i` for the hidden that enters Mamba layer i, and `final` for the last
/// addition. The rates are 0, then linspace(0, p, depth), so that layers 0 and 1 drop nothing. Transformer blocks never
/// drop.
pub(super) fn drop_path_places(config: &Config) -> Vec<(String, f64)> {
    let depth = config.depth();
    let name = |i: usize| if i == depth { "final".into() } else { format!("layers.{i}") };
    let rates = std::iter::once(0.0).chain(config.drop_path_line(depth));
    rates.enumerate().map(|(i, rate)| (name(i), rate)).collect()
}

/// DropPath's factors (B) of one place: a row of `drop_path` (places, stride).
pub(super) fn drop_path_row(drop_path: Option<&Tensor>, row: usize, batch: usize) -> Result<Option<Tensor>> {
    let Some(drop_path) = drop_path else { return Ok(None) };
    let [_, stride] = drop_path.dims("drop_path")?;
    drop_path.range(row * stride, &[batch]).map(Some)
}

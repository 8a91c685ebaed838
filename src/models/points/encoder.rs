//! The encoder of patches of points: Mamba3D (Han et al. 2024), the HybridNet of MAP on it, and Point-MAE's transformer
//! (Pang et al. 2022).

use std::sync::Arc;

use super::config::{PointConfig, PointMixers};
use crate::error::{Error, Result};
use crate::models::backbones::layers::drop_path_row;
use crate::nn::{
    Block, BlockConfig, Directions, Init, InitScheme, LayerNorm, LocalNormPooling, MambaConfig, MambaMixer, Params,
    PatchPointNet, PositionMlp, SelfAttention,
};
use crate::ops::add::{add, add_drop_path};
use crate::ops::local_norm_pool::Neighbors;
use crate::ops::registers::{Places, insert};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Initial values of linear layers and 1×1 convolutions.
pub(super) const LINEAR: Init = Init::TruncNormal(0.02);

/// Clouds as their patches. In pretraining the visible patches of each cloud come first.
#[derive(Debug, Clone)]
pub struct PointBatch {
    /// Points relative to the center of their patch (B, G, K, 3).
    pub patches: Tensor,
    /// Centers (B, G, 3).
    pub centers: Tensor,
    /// The neighbors of the patches that are encoded, for networks with local norm pooling.
    pub neighbors: Option<Neighbors>,
}

/// Sizes of the blocks of attention.
pub(super) fn block_config(config: &PointConfig, init: Init) -> BlockConfig {
    BlockConfig {
        width: config.width,
        heads: config.heads,
        hidden: 4 * config.width,
        eps: PointConfig::EPS,
        qkv_bias: false,
        init,
    }
}

/// What mixes the tokens of a block.
#[derive(Debug, Clone)]
enum Mixer {
    Mamba(Box<MambaMixer>),
    Transformer(Box<Block>),
    Attention(Box<SelfAttention>),
}

/// u + LNP(LN u), then u + mixer(LN u). Without local norm pooling there is one norm.
#[derive(Debug, Clone)]
struct PointBlock {
    local: Option<(LayerNorm, LocalNormPooling)>,
    norm: LayerNorm,
    mixer: Mixer,
    name: Arc<str>,
}

impl PointBlock {
    /// Parameters `norm1`, `lfa`, `norm2` and `mixer`.
    fn new(p: &mut Params, config: &PointConfig, mixer: impl FnOnce(&mut Params) -> Result<Mixer>) -> Result<Self> {
        let (width, eps) = (config.width, PointConfig::EPS);
        let local = (LayerNorm::new(p, "norm1", width, eps)?, LocalNormPooling::new(p, "lfa", width, eps, LINEAR)?);
        let norm = LayerNorm::new(p, "norm2", width, eps)?;
        Ok(Self { local: Some(local), norm, mixer: mixer(p)?, name: p.path() })
    }

    /// Branches that can be dropped.
    fn branches(&self) -> usize {
        1 + usize::from(self.local.is_some())
    }

    /// u (B, T, D) → (B, T, D), with a factor of DropPath (B) for each branch.
    fn forward(
        &self, r: &mut Recorder, u: &Var, neighbors: Option<&Neighbors>, class_token: bool,
        drop_path: &[Option<Tensor>],
    ) -> Result<Var> {
        let join = |r: &mut Recorder, u: &Var, y: &Var, at: usize| match drop_path.get(at) {
            Some(Some(factors)) => add_drop_path(r, u, y, factors),
            _ => add(r, u, y),
        };
        let (mut u, mut at) = (u.clone(), 0);
        if let Some((norm, pooling)) = &self.local {
            let missing = || Error::argument("neighbors of the patches", "none", "those of every patch");
            let normed = r.scope(&norm.name, |r| norm.forward(r, &u))?;
            let y = pooling.forward(r, &normed, neighbors.ok_or_else(missing)?, class_token)?;
            u = join(r, &u, &y, at)?;
            at += 1;
        }
        let y = match &self.mixer {
            Mixer::Mamba(mixer) => {
                let normed = r.scope(&self.norm.name, |r| self.norm.operand(r, &u))?;
                mixer.forward(r, &normed)?
            }
            Mixer::Transformer(block) => {
                let normed = r.scope(&self.norm.name, |r| self.norm.forward(r, &u))?;
                r.scope(&block.name, |r| block.forward(r, &normed, None))?
            }
            Mixer::Attention(attention) => {
                let normed = r.scope(&self.norm.name, |r| self.norm.operand(r, &u))?;
                attention.forward_onto(r, &normed, None, None)?
            }
        };
        join(r, &u, &y, at)
    }
}

/// A layer of the encoder.
#[derive(Debug, Clone)]
enum Layer {
    Point(Box<PointBlock>),
    /// A plain transformer block, whose own branches are dropped.
    Plain(Box<Block>),
}

impl Layer {
    fn name(&self) -> Arc<str> {
        match self {
            Self::Point(block) => block.name.clone(),
            Self::Plain(block) => block.name.clone(),
        }
    }

    fn branches(&self) -> usize {
        match self {
            Self::Point(block) => block.branches(),
            Self::Plain(_) => 2,
        }
    }
}

/// The encoder.
#[derive(Debug, Clone)]
pub struct PointEncoder {
    patches: PatchPointNet,
    positions: PositionMlp,
    /// The class token and its position, (1, 1, D) each.
    class: Option<[Var; 2]>,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

impl PointEncoder {
    /// Parameters under the official names. Pretraining checkpoints of Mamba3D hold a class token that it does not use.
    pub fn new(params: &mut Params, config: &PointConfig, class_token: bool) -> Result<Self> {
        config.validate()?;
        let width = config.width;
        let class = |p: &mut Params, name: &str, init| p.add(name, &[1, 1, width], &[1, 1, width], init);
        let class = match class_token {
            true => Some([class(params, "cls_token", Init::Zeros)?, class(params, "cls_pos", Init::Normal(1.0))?]),
            false => None,
        };
        let patches = PatchPointNet::new(params, "encoder", config.encoder_hidden, width, LINEAR)?;
        let sizes = (config.pos_hidden, width);
        let positions = PositionMlp::new(params, "pos_embed", sizes, config.pos_act(), LINEAR)?;
        let mut layers = Vec::new();
        for i in 0..config.depth {
            layers.extend(layers_at(params, config, i)?);
        }
        let norm = LayerNorm::new(params, "norm", width, PointConfig::EPS)?;
        Ok(Self { patches, positions, class, layers, norm })
    }

    /// Patches (B, G, K, 3) → a token of each (B, G, D), without a position.
    pub fn tokens(&self, r: &mut Recorder, patches: &Tensor) -> Result<Var> {
        self.patches.forward(r, &Var::constant(patches.clone()))
    }

    /// Tokens (B, T, D) and their centers (B, T, 3) → features (B, T, D), with the class token's in front if
    /// `class_token`. `drop_path` has a row of factors for each of [`PointConfig::drop_path_rates`].
    pub fn encode(
        &self, r: &mut Recorder, tokens: &Var, centers: &Tensor, neighbors: Option<&Neighbors>, class_token: bool,
        drop_path: Option<&Tensor>,
    ) -> Result<Var> {
        let x = self.layers(r, tokens, centers, neighbors, class_token, drop_path, self.layers.len())?;
        r.scope(&self.norm.name, |r| self.norm.forward(r, &x))
    }

    /// [`PointEncoder::encode`] up to the layer `count`, without the last norm.
    #[expect(clippy::too_many_arguments, reason = "what a layer reads, and how many run")]
    pub(crate) fn layers(
        &self, r: &mut Recorder, tokens: &Var, centers: &Tensor, neighbors: Option<&Neighbors>, class_token: bool,
        drop_path: Option<&Tensor>, count: usize,
    ) -> Result<Var> {
        let mut x = tokens.clone();
        let mut positions = self.positions.forward(r, &Var::constant(centers.clone()))?;
        if let Some([token, place]) = self.class.as_ref().filter(|_| class_token) {
            x = insert(r, &x, token, Places::front())?;
            positions = insert(r, &positions, place, Places::front())?;
        }
        let (mut row, batch) = (0, x.data.shape()[0]);
        for layer in self.layers.iter().take(count) {
            let mut factors = Vec::new();
            for _ in 0..layer.branches() {
                factors.push(drop_path_row(drop_path, row, batch)?);
                row += 1;
            }
            let (name, layer, at) = (layer.name(), layer.clone(), positions.clone());
            let neighbors = neighbors.cloned();
            let forward = move |r: &mut Recorder| {
                let u = add(r, &x, &at)?; // the position is added again in front of every layer
                match &layer {
                    Layer::Point(block) => block.forward(r, &u, neighbors.as_ref(), class_token, &factors),
                    Layer::Plain(block) => {
                        let pair = factors[0].clone().zip(factors[1].clone()).map(|(a, b)| [a, b]);
                        block.forward(r, &u, pair.as_ref())
                    }
                }
            };
            [x] = r.segment(move |r| r.scope(&name, |r| Ok([forward(r)?])))?;
        }
        Ok(x)
    }
}

/// Layer i, and the block behind it.
fn layers_at(params: &mut Params, config: &PointConfig, i: usize) -> Result<Vec<Layer>> {
    if config.mixers == PointMixers::Transformer {
        let block = Block::new(params, &format!("blocks.blocks.{i}"), &block_config(config, LINEAR))?;
        return Ok(vec![Layer::Plain(Box::new(block))]);
    }
    let mamba = MambaConfig {
        width: config.width,
        states: 16,
        conv: 4,
        expand: 2,
        directions: if config.channel_reversed { Directions::Channels } else { Directions::One },
        init: InitScheme::default(),
        out_scale: 1.0,
    };
    let mixer = |p: &mut Params| Ok(Mixer::Mamba(Box::new(MambaMixer::new(p, "mixer", &mamba)?)));
    let mut layers = vec![params.scope(&format!("blocks.blocks.{i}"), |p| PointBlock::new(p, config, mixer))?];
    if let Some(k) = config.block_behind(i) {
        layers.push(params.scope(&format!("blocks.blocks_vit.{k}"), |p| {
            if config.mixers == PointMixers::HybridAttention {
                let norm = LayerNorm::new(p, "norm1", config.width, PointConfig::EPS)?;
                let attention = SelfAttention::new(p, "attn", &block_config(config, LINEAR))?;
                let mixer = Mixer::Attention(Box::new(attention));
                return Ok(PointBlock { local: None, norm, mixer, name: p.path() });
            }
            let block = |p: &mut Params| {
                Ok(Mixer::Transformer(Box::new(Block::new(p, "mixer", &block_config(config, LINEAR))?)))
            };
            PointBlock::new(p, config, block)
        })?);
    }
    Ok(layers.into_iter().map(|block| Layer::Point(Box::new(block))).collect())
}

//! Networks on point clouds: Mamba3D (Han et al. 2024), the HybridNet of MAP on it, and Point-MAE's transformer (Pang
//! et al. 2022), under their official names (src/models/README.md, "Point clouds").

use std::sync::Arc;

use super::encoder::{Encoder, Purpose};
use super::layers::drop_path_row;
use crate::error::{Error, Result};
use crate::models::batch::MaskedBatch;
use crate::models::config::{Config, Family, FamilyFacts, MapPreset};
use crate::models::options::Decoder;
use crate::models::points::{PointMixers, Points};
use crate::nn::{
    Block, BlockConfig, Directions, Init, LayerNorm, LocalNormPooling, MambaConfig, MambaMixer, Params, PatchPointNet,
    PositionMlp, SelfAttention,
};
use crate::ops::add::{add, add_drop_path};
use crate::ops::concat::{concat, narrow};
use crate::ops::local_norm_pool::Neighbors;
use crate::ops::matmul::Act;
use crate::ops::neighbors::neighbors;
use crate::ops::pool::{Windows, max_pool};
use crate::ops::reduce::mean_tokens;
use crate::ops::registers::{Places, extract, insert, rest};
use crate::ops::reshape::reshape;
use crate::ops::tokens::gather;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Initial values of linear layers and 1×1 convolutions.
pub(crate) const LINEAR: Init = Init::TruncNormal(0.02);

impl Family {
    /// Patches of point clouds.
    pub const POINTS: Self = Self(&FamilyFacts {
        name: "points",
        title: "network on point clouds",
        clouds: true,
        layers: "",
        unread: &[
            &["pattern", "extra-residual", "order", "positions", "init-positions", "position-scale"],
            &["decoder-width", "decoder-heads", "mask-token-std"],
        ],
        prefix_tokens: 0..=0,
        mlp_ratio: 4.0,
        drop_path: |config| match &config.points {
            Some(points) => points.drop_path_places(config.drop_path),
            None => Vec::new(),
        },
        trunk: &["encoder", "pos_embed", "blocks", "norm"],
        classifier: &["cls_head_finetune", "cls_token", "cls_pos"],
        head: "cls_head_finetune",
        layer: |config, name| {
            let points = config.points.as_ref()?;
            let number = |prefix: &str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
            let behind = || Some(3 * number("blocks.blocks_vit.")? + 2);
            number("blocks.blocks.").or_else(behind).filter(|layer| *layer < points.depth)
        },
        pretrained_prefix: "MAE_encoder.",
        named: &[
            MapPreset { name: "mamba3d_micro", image_size: 1, with: |c| micro(c, PointMixers::Mamba) },
            MapPreset { name: "map3d_micro", image_size: 1, with: |c| micro(c, PointMixers::Hybrid) },
            MapPreset { name: "pointmae_micro", image_size: 1, with: |c| micro(c, PointMixers::Transformer) },
            MapPreset { name: "mamba3d_base", image_size: 1, with: |c| sized(c, PointMixers::Mamba) },
            MapPreset { name: "map3d_base", image_size: 1, with: |c| sized(c, PointMixers::Hybrid) },
            MapPreset { name: "map3d_attention_base", image_size: 1, with: |c| sized(c, PointMixers::HybridAttention) },
            MapPreset { name: "pointmae_base", image_size: 1, with: |c| sized(c, PointMixers::Transformer) },
        ],
        ..FamilyFacts::PLAIN
    });
}

/// The official sizes, with 64 patches as in pretraining; the classifiers of Mamba3D take 128 (`--groups`).
fn sized(config: Config, mixers: PointMixers) -> Config {
    let points = Points { mixers, ..Points::default() };
    let drop_path = if points.pools_locally() { 0.2 } else { 0.1 };
    let decoder = Decoder { width: 384, depth: 4, heads: 6, ..config.decoder };
    Config { width: 384, heads: 6, classes: 40, dropout: 0.5, drop_path, points: Some(points), decoder, ..config }
}

/// For CPUs: 256 points in 16 patches.
fn micro(config: Config, mixers: PointMixers) -> Config {
    let points = Points {
        mixers,
        depth: 6,
        count: 256,
        groups: 16,
        group_size: 16,
        encoder_hidden: [32, 64, 96],
        pos_hidden: 32,
        head_hidden: 64,
        ..Points::default()
    };
    let decoder = Decoder { width: 64, depth: 2, heads: 4, ..config.decoder };
    Config { width: 64, heads: 4, classes: 10, dropout: 0.0, drop_path: 0.0, points: Some(points), decoder, ..config }
}

/// Sizes of the blocks of attention.
pub(crate) fn block_config(config: &Config, init: Init) -> BlockConfig {
    BlockConfig {
        width: config.width,
        heads: config.heads,
        hidden: config.mlp_hidden(),
        eps: config.eps(),
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
    fn new(p: &mut Params, config: &Config, mixer: impl FnOnce(&mut Params) -> Result<Mixer>) -> Result<Self> {
        let (width, eps) = (config.width, config.eps());
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
            let missing = || Error::Internal("local norm pooling without neighbors".into());
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
    sizes: Points,
}

impl PointEncoder {
    /// Parameters under the official names. A pretraining of Mamba3D holds a class token that it does not use, one of
    /// Point-MAE has none.
    pub fn new(params: &mut Params, config: &Config, purpose: Purpose) -> Result<Self> {
        let (width, sizes) = (config.width, config.points()?.clone());
        let class = |p: &mut Params, name: &str, init| p.add(name, &[1, 1, width], &[1, 1, width], init);
        let class = match purpose == Purpose::Classification || sizes.pools_locally() {
            true => Some([class(params, "cls_token", Init::Zeros)?, class(params, "cls_pos", Init::Normal(1.0))?]),
            false => None,
        };
        let patches = PatchPointNet::new(params, "encoder", sizes.encoder_hidden, width, LINEAR)?;
        let act = if sizes.pools_locally() { Act::Silu } else { Act::Gelu };
        let positions = PositionMlp::new(params, "pos_embed", (sizes.pos_hidden, width), act, LINEAR)?;
        let mut layers = Vec::new();
        for i in 0..sizes.depth {
            layers.extend(layers_at(params, config, &sizes, i)?);
        }
        let norm = LayerNorm::new(params, "norm", width, config.eps())?;
        Ok(Self { patches, positions, class, layers, norm, sizes })
    }

    /// Patches (B, G, 3K + 3) → their points (B, G, K, 3) and centers (B, G, 3).
    pub(crate) fn split(&self, r: &mut Recorder, patches: &Var) -> Result<(Var, Var)> {
        let [b, groups, len] = patches.data.dims("patches of points")?;
        let k = self.sizes.group_size;
        if len != self.sizes.patch_len() {
            let expected = format!("(B, G, {}): {k} points and a center", self.sizes.patch_len());
            return Err(Error::argument("patches of points", format!("{:?}", patches.data.shape()), expected));
        }
        let points = narrow(r, patches, 0, 3 * k)?;
        Ok((reshape(r, &points, &[b, groups, k, 3])?, narrow(r, patches, 3 * k, 3)?))
    }

    /// The points of patches (B, G, K, 3) → a token of each patch (B, G, D), without a position.
    pub(crate) fn patch_tokens(&self, r: &mut Recorder, points: &Var) -> Result<Var> {
        self.patches.forward(r, points)
    }

    /// Tokens (B, T, D) and their centers (B, T, 3) → features (B, T, D), with the class token's in front if
    /// `class_token`. `drop_path` as in [`Encoder`].
    pub(crate) fn encode(
        &self, r: &mut Recorder, tokens: &Var, centers: &Var, class_token: bool, drop_path: Option<&Tensor>,
    ) -> Result<Var> {
        let x = self.layers(r, tokens, centers, class_token, drop_path, self.layers.len())?;
        r.scope(&self.norm.name, |r| self.norm.forward(r, &x))
    }

    /// [`PointEncoder::encode`] up to the layer `count`, without the last norm.
    pub(crate) fn layers(
        &self, r: &mut Recorder, tokens: &Var, centers: &Var, class_token: bool, drop_path: Option<&Tensor>,
        count: usize,
    ) -> Result<Var> {
        let mut x = tokens.clone();
        let near = match self.sizes.pools_locally() {
            true => Some(neighbors(r, &centers.data, self.sizes.neighbors.min(tokens.data.shape()[1]))?),
            false => None,
        };
        let mut positions = self.positions.forward(r, centers)?;
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
            let near = near.clone();
            let forward = move |r: &mut Recorder| {
                let u = add(r, &x, &at)?; // the position is added again in front of every layer
                match &layer {
                    Layer::Point(block) => block.forward(r, &u, near.as_ref(), class_token, &factors),
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

impl Encoder for PointEncoder {
    /// With the class token in front.
    fn sequence(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let (points, centers) = self.split(r, patches)?;
        let tokens = self.patch_tokens(r, &points)?;
        self.encode(r, &tokens, &centers, true, drop_path)
    }

    /// The class token's features beside the largest of the patches' (Point-MAE), or the sum of the largest and their
    /// mean: (B, 2D).
    fn pool(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        let [b, tokens, d] = x.data.dims("tokens")?;
        let class = extract(r, x, Places::front())?;
        let patches = rest(r, x, Places::front())?; // (B, G, D)
        let count = tokens - 1;
        let columns = reshape(r, &patches, &[b, count, 1, d])?;
        let most = max_pool(r, &columns, Windows { kernel: [count, 1], stride: [count, 1], padding: [0; 2] })?;
        let mut pooled = reshape(r, &most, &[b, d])?;
        if self.sizes.pools_locally() {
            let mut mean = mean_tokens(r, &patches)?; // (B, D)
            if self.sizes.mean_pool_bug {
                mean = first_of_all(r, &mean)?;
            }
            pooled = add(r, &pooled, &mean)?;
        }
        let class = reshape(r, &class, &[b, d])?;
        concat(r, &[&class, &pooled])
    }

    fn pyramid(&self, _r: &mut Recorder, _patches: &Var, _drop_path: Option<&Tensor>) -> Result<Vec<Var>> {
        Err(Error::argument("feature maps", "a network on point clouds", "a network on images"))
    }

    /// As pretraining sees them: without the class token.
    fn tokens(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let (points, centers) = self.split(r, patches)?;
        let tokens = self.patch_tokens(r, &points)?;
        self.encode(r, &tokens, &centers, false, drop_path)
    }

    /// Batch norms see the hidden patches too, as in the official code.
    fn encode_visible(&self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>) -> Result<Var> {
        let (points, centers) = self.split(r, &Var::constant(batch.patches.clone()))?;
        let tokens = self.patch_tokens(r, &points)?;
        let seen = gather(r, &tokens, &batch.visible, &batch.inverse)?;
        let centers = gather(r, &centers, &batch.visible, &batch.inverse)?;
        self.encode(r, &seen, &centers, false, drop_path)
    }
}

/// Rows (B, D) → the first row for each of them: a register of all samples.
fn first_of_all(r: &mut Recorder, rows: &Var) -> Result<Var> {
    let [b, d] = rows.data.dims("rows")?;
    let all = reshape(r, rows, &[1, b * d])?;
    let first = narrow(r, &all, 0, d)?;
    let first = reshape(r, &first, &[1, 1, d])?;
    let own = reshape(r, rows, &[b, 1, d])?;
    let both = insert(r, &own, &first, Places::front())?;
    let first = extract(r, &both, Places::front())?;
    reshape(r, &first, &[b, d])
}

/// Layer i, and the block behind it.
fn layers_at(params: &mut Params, config: &Config, sizes: &Points, i: usize) -> Result<Vec<Layer>> {
    if sizes.mixers == PointMixers::Transformer {
        let block = Block::new(params, &format!("blocks.blocks.{i}"), &block_config(config, LINEAR))?;
        return Ok(vec![Layer::Plain(Box::new(block))]);
    }
    let mamba = MambaConfig {
        width: config.width,
        states: config.states,
        conv: config.conv,
        expand: config.expand,
        directions: if sizes.channel_reversed { Directions::Channels } else { Directions::One },
        init: config.init,
        out_scale: 1.0,
    };
    let mixer = |p: &mut Params| Ok(Mixer::Mamba(Box::new(MambaMixer::new(p, "mixer", &mamba)?)));
    let mut layers = vec![params.scope(&format!("blocks.blocks.{i}"), |p| PointBlock::new(p, config, mixer))?];
    if let Some(k) = sizes.block_behind(i) {
        layers.push(params.scope(&format!("blocks.blocks_vit.{k}"), |p| {
            if sizes.mixers == PointMixers::HybridAttention {
                let norm = LayerNorm::new(p, "norm1", config.width, config.eps())?;
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

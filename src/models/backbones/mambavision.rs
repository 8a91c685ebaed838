//! MambaVision (Hatamizadeh and Kautz 2025): two levels of convolutions, then two of windows in which scans and, behind
//! them, attention mix the tokens. The official network under its names (src/models/README.md, "MambaVision").

use std::sync::Arc;

use super::on_maps::{BlockRunner, Hidden, MapBlock, MapEncoder, add_branch};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::config::{Config, Family, FamilyFacts, MapPreset};
use crate::models::hierarchy::{Hierarchy, Stage};
use crate::models::options::TestView;
use crate::nn::{
    BatchNorm, BatchNormConfig, BlockConfig, Conv2d, ConvConfig, ConvNorm, Init, LayerNorm, MambaVisionMixer, Mlp,
    Params, SelfAttention, WindowPartition,
};
use crate::ops::batch_norm::BatchNormAct;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Levels of convolutional blocks, in front of those of windows.
const CONVOLUTIONAL: usize = 2;
/// Epsilon of the stem's batch norms.
const STEM_EPS: f32 = 1e-4;
/// Initial values of linear layers.
const LINEAR: Init = Init::TruncNormal(0.02);

impl Family {
    /// Convolutional blocks, mixers and attention.
    pub const MAMBAVISION: Self = Self(&FamilyFacts {
        name: "mambavision",
        title: "MambaVision",
        hierarchical: true,
        layers: "",
        unread: &[&["patch-size", "pattern", "heads", "extra-residual", "positions"]],
        prefix_tokens: 0..=0,
        mlp_ratio: 4.0,
        drop_path: places,
        draws: |config| {
            let (Some(net), sizes) = (&config.hierarchy, sizes(config)) else { return 1 };
            let windows = net.stages.iter().zip(sizes).skip(CONVOLUTIONAL);
            windows
                .map(|(stage, size)| size.map(|cells| cells.div_ceil(stage.window)).iter().product())
                .max()
                .unwrap_or(1)
        },
        feature_norm: Some(("outnorm", 1e-5)),
        trunk: &["patch_embed", "levels", "norm"],
        classifier: &["head"],
        layer: |config, name| {
            let mut parts = name.strip_prefix("levels.")?.split('.');
            let (level, kind, block) = (parts.next()?.parse::<usize>().ok()?, parts.next()?, parts.next()?);
            let net = config.hierarchy.as_ref()?;
            // the downsampling goes with the level's last block
            let last = net.stages.get(level)?.depth.checked_sub(1)?;
            net.block_number(level, if kind == "blocks" { block.parse().ok()? } else { last })
        },
        check: |config| {
            let net = config.stages()?;
            let fits = |stage: &&Stage| {
                stage.width.is_multiple_of(2)
                    && stage.width.is_multiple_of(stage.heads)
                    && stage.width / stage.heads <= 128
            };
            match net.stages.iter().skip(CONVOLUTIONAL).find(|stage| !fits(stage)) {
                None => Ok(()),
                Some(stage) => {
                    let got = format!("{} wide with {} heads", stage.width, stage.heads);
                    Err(Error::argument(
                        "level of a MambaVision",
                        got,
                        "an even width, heads that divide it, 128 each at most",
                    ))
                }
            }
        },
        named: &[
            MapPreset { name: "mambavision_micro", image_size: 64, with: micro },
            MapPreset { name: "mambavision_tiny_1k", image_size: 224, with: |c| sized(c, (80, 32), [1, 3, 8, 4], 2) },
            MapPreset {
                name: "mambavision_tiny2_1k",
                image_size: 224,
                with: |c| Config { test_view: TestView::crop(0.98), ..sized(c, (80, 32), [1, 3, 11, 4], 2) },
            },
            MapPreset {
                name: "mambavision_small_1k",
                image_size: 224,
                with: |c| Config { test_view: TestView::crop(0.93), ..sized(c, (96, 64), [3, 3, 7, 5], 2) },
            },
            MapPreset { name: "mambavision_base_1k", image_size: 224, with: |c| scaled(c, 128, [3, 3, 10, 5], 2) },
            MapPreset { name: "mambavision_large_1k", image_size: 224, with: |c| scaled(c, 196, [3, 3, 10, 5], 4) },
            MapPreset { name: "mambavision_large2_1k", image_size: 224, with: |c| scaled(c, 196, [3, 3, 12, 5], 4) },
        ],
        ..FamilyFacts::PLAIN
    });
}

/// Width `dim` of the first level, which doubles from level to level, as the heads do.
fn sized(config: Config, (dim, stem): (usize, usize), depths: [usize; 4], heads: usize) -> Config {
    let level = |i: usize| Stage {
        depth: depths[i],
        width: dim << i,
        heads: heads << i,
        window: [8, 8, 14, 7][i],
        ..Stage::default()
    };
    let hierarchy = Hierarchy { stem, stages: (0..4).map(level).collect(), ..Hierarchy::default() };
    let test_view = TestView::crop(1.0);
    Config { width: 8 * dim, states: 8, conv: 3, drop_path: 0.2, test_view, hierarchy: Some(hierarchy), ..config }
}

/// The sizes with layer scale: B, L and L2.
fn scaled(config: Config, dim: usize, depths: [usize; 4], heads: usize) -> Config {
    let config = sized(config, (dim, 64), depths, heads);
    let gamma = |net| Hierarchy { layer_scale: Some(1e-5), ..net };
    Config { drop_path: 0.3, hierarchy: config.hierarchy.map(gamma), ..config }
}

/// For images of 32 to 64 pixels.
fn micro(config: Config) -> Config {
    let config = sized(config, (16, 16), [1, 1, 2, 2], 1);
    let small = |mut net: Hierarchy| {
        for (stage, window) in net.stages.iter_mut().zip([1, 1, 4, 2]) {
            stage.window = window;
        }
        net
    };
    Config { drop_path: 0.0, hierarchy: config.hierarchy.map(small), ..config }
}

/// [`FamilyFacts::drop_path`]: one branch in a convolutional block, two in the others, all at the rate of their block.
fn places(config: &Config) -> Vec<(String, f64)> {
    let Some(net) = &config.hierarchy else { return Vec::new() };
    let mut places = Vec::new();
    for ((level, block), rate) in net.blocks().zip(config.drop_path_line(net.depth())) {
        let name = format!("levels.{level}.blocks.{block}");
        match level < CONVOLUTIONAL {
            true => places.push((name, rate)),
            false => places.extend(["mixer", "mlp"].map(|branch| (format!("{name}.{branch}"), rate))),
        }
    }
    places
}

/// [rows, columns] of each level's map: stride 4, and each level half of the one before, rounded up.
fn sizes(config: &Config) -> impl Iterator<Item = [usize; 2]> {
    let image = [config.image_size, config.image_width.unwrap_or(config.image_size)];
    let halved = |size: [usize; 2]| size.map(|cells| cells.div_ceil(2));
    std::iter::successors(Some(halved(halved(image))), move |size| Some(halved(*size)))
}

/// x + γ·BN(conv(GELU(BN(conv(x))))), both convolutions 3×3.
#[derive(Debug, Clone)]
struct ConvBlock {
    conv1: ConvNorm,
    conv2: ConvNorm,
    gamma: Option<Var>,
    name: Arc<str>,
}

impl ConvBlock {
    /// Parameters `conv1`, `norm1`, `conv2`, `norm2` and, with layer scale, `gamma`.
    fn new(p: &mut Params, width: usize, net: &Hierarchy) -> Result<Self> {
        let conv = ConvConfig { bias: true, ..ConvConfig::dense(width, width, 3, Init::FanIn(1.0)) };
        let norms = net.batch_norm();
        Ok(Self {
            conv1: ConvNorm::new(p, ["conv1", "norm1"], conv, norms, Init::Ones)?,
            conv2: ConvNorm::new(p, ["conv2", "norm2"], conv, norms, Init::Ones)?,
            gamma: gamma(p, "gamma", width, net.layer_scale_conv)?,
            name: p.path(),
        })
    }
}

impl MapBlock<1> for ConvBlock {
    fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// x (B, H, W, C) → (B, H, W, C)
    fn forward(&self, r: &mut Recorder, x: &Var, [drop_path]: [Option<&Tensor>; 1]) -> Result<Var> {
        let y = self.conv1.forward(r, x, BatchNormAct::GeluTanh)?;
        let y = self.conv2.forward(r, &y, BatchNormAct::None)?;
        add_branch(r, x, &y, self.gamma.as_ref(), drop_path)
    }
}

/// What mixes the tokens of a window.
#[derive(Debug, Clone)]
enum Mixer {
    Scan(Box<MambaVisionMixer>),
    Attention(Box<SelfAttention>),
}

/// x + γ₁·mix(LN x); x + γ₂·MLP(LN x).
#[derive(Debug, Clone)]
struct WindowBlock {
    norm1: LayerNorm,
    mixer: Mixer,
    norm2: LayerNorm,
    mlp: Mlp,
    gammas: [Option<Var>; 2],
    name: Arc<str>,
}

impl WindowBlock {
    /// Parameters `norm1`, `mixer`, `norm2`, `mlp.fc1`, `mlp.fc2` and, with layer scale, `gamma_1` and `gamma_2`.
    fn new(p: &mut Params, stage: &Stage, attends: bool, config: &Config, net: &Hierarchy) -> Result<Self> {
        let (width, eps) = (stage.width, config.eps());
        let hidden = (width as f64 * config.mlp_ratio) as usize;
        let attention = BlockConfig { width, heads: stage.heads, hidden, eps, qkv_bias: config.qkv_bias, init: LINEAR };
        Ok(Self {
            norm1: LayerNorm::new(p, "norm1", width, eps)?,
            mixer: match attends {
                true => Mixer::Attention(Box::new(SelfAttention::new(p, "mixer", &attention)?)),
                false => Mixer::Scan(Box::new(MambaVisionMixer::new(p, "mixer", width, config.states)?)),
            },
            norm2: LayerNorm::new(p, "norm2", width, eps)?,
            mlp: Mlp::new(p, width, hidden, LINEAR)?,
            gammas: [gamma(p, "gamma_1", width, net.layer_scale)?, gamma(p, "gamma_2", width, net.layer_scale)?],
            name: p.path(),
        })
    }
}

/// The branches are mixer and MLP.
impl MapBlock<2> for WindowBlock {
    fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// x (B·windows, L, C) → the same shape.
    fn forward(&self, r: &mut Recorder, x: &Var, drop_path: [Option<&Tensor>; 2]) -> Result<Var> {
        // without factors the branch's last product adds the residual
        let plain = [0, 1].map(|i| self.gammas[i].is_none() && drop_path[i].is_none());
        let [gamma_1, gamma_2] = self.gammas.each_ref().map(Option::as_ref);
        let h = self.norm1.operand(r, x)?;
        let residual = plain[0].then_some(x);
        let h = match &self.mixer {
            Mixer::Scan(scan) => scan.forward_onto(r, &h, residual)?,
            Mixer::Attention(attention) => attention.forward_onto(r, &h, residual, None)?,
        };
        let x = if plain[0] { h } else { add_branch(r, x, &h, gamma_1, drop_path[0])? };
        let h = self.norm2.operand(r, &x)?;
        if plain[1] {
            return self.mlp.forward_onto(r, &h, Some(&x));
        }
        let h = self.mlp.branch(r, &h)?;
        add_branch(r, &x, &h, gamma_2, drop_path[1])
    }
}

/// Factors of a residual branch's channels, if the network has them.
fn gamma(p: &mut Params, name: &str, width: usize, start: Option<f64>) -> Result<Option<Var>> {
    start.map(|start| p.add(name, &[width], &[width], Init::Constant(start as f32))).transpose()
}

/// The blocks of a level.
#[derive(Debug, Clone)]
enum Blocks {
    Conv(Vec<ConvBlock>),
    /// Blocks that mix the tokens of windows.
    Window(WindowPartition, Vec<WindowBlock>),
}

/// A level: its blocks, and the convolution behind them.
#[derive(Debug, Clone)]
struct Level {
    blocks: Blocks,
    downsample: Option<Conv2d>,
}

/// The network.
#[derive(Debug, Clone)]
pub struct MambaVision {
    stem: [ConvNorm; 2],
    levels: Vec<Level>,
    /// In front of the mean over the last map, and of a decoder.
    norm: Option<BatchNorm>,
}

impl MambaVision {
    /// Parameters under their official names.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let net = config.stages()?;
        let shrink =
            |inputs, outputs| ConvConfig { stride: 2, ..ConvConfig::dense(inputs, outputs, 3, Init::FanIn(1.0)) };
        let first = net.stages.first().map_or(0, |stage| stage.width);
        let norms = BatchNormConfig { eps: STEM_EPS, ..net.batch_norm() };
        let stem = params.scope("patch_embed.conv_down", |p| {
            let before = ConvNorm::new(p, ["0", "1"], shrink(3, net.stem), norms, Init::Ones)?;
            Ok([before, ConvNorm::new(p, ["3", "4"], shrink(net.stem, first), norms, Init::Ones)?])
        })?;
        let mut levels = Vec::new();
        for (i, (stage, size)) in net.stages.iter().zip(sizes(config)).enumerate() {
            let next = net.stages.get(i + 1).map(|next| next.width);
            levels.push(params.scope(&format!("levels.{i}"), |p| {
                let blocks = match i < CONVOLUTIONAL {
                    true => {
                        let block = |j| p.scope(&format!("blocks.{j}"), |p| ConvBlock::new(p, stage.width, net));
                        Blocks::Conv((0..stage.depth).map(block).collect::<Result<_>>()?)
                    }
                    false => {
                        let block = |j| {
                            let attends = j >= stage.depth.div_ceil(2); // the first half scans, rounded up
                            p.scope(&format!("blocks.{j}"), |p| WindowBlock::new(p, stage, attends, config, net))
                        };
                        let blocks = (0..stage.depth).map(block).collect::<Result<_>>()?;
                        Blocks::Window(WindowPartition::new(g, size, stage.window)?, blocks)
                    }
                };
                let downsample = next.map(|next| Conv2d::new(p, "downsample.reduction.0", shrink(stage.width, next)));
                Ok(Level { blocks, downsample: downsample.transpose()? })
            })?);
        }
        let norm = || BatchNorm::new(params, "norm", config.width, net.batch_norm());
        Ok(Self { stem, levels, norm: config.dense.is_none().then(norm).transpose()? })
    }
}

impl MapEncoder for MambaVision {
    /// Strides 4, 8, 16 and 32, before each level's downsampling.
    fn stages(
        &self, r: &mut Recorder, image: &Var, hidden: Option<&Hidden>, drop_path: Option<&Tensor>,
    ) -> Result<Vec<Var>> {
        let mut x = image.clone();
        for conv in &self.stem {
            x = conv.forward(r, &x, BatchNormAct::Relu)?;
        }
        let (mut maps, mut blocks) = (Vec::new(), BlockRunner::new(drop_path));
        for (i, level) in self.levels.iter().enumerate() {
            // hidden cells are erased before each convolution that would look into them, and become tokens where the
            // levels begin that mix all cells
            x = match hidden {
                Some(hidden) if i < CONVOLUTIONAL => hidden.erase(r, &x)?,
                Some(hidden) if i == CONVOLUTIONAL => hidden.replace(r, &x)?,
                _ => x,
            };
            x = match &level.blocks {
                Blocks::Conv(convs) => blocks.run(r, x, convs, hidden)?,
                Blocks::Window(windows, mixers) => {
                    let cells = windows.partition(r, &x)?;
                    let cells = blocks.run(r, cells, mixers, None)?;
                    windows.reverse(r, &cells)?
                }
            };
            maps.push(x.clone());
            if let Some(downsample) = &level.downsample {
                x = downsample.forward(r, &x)?;
            }
        }
        Ok(maps)
    }

    fn last(&self, r: &mut Recorder, map: &Var) -> Result<Var> {
        match &self.norm {
            Some(norm) => r.scope(&norm.name, |r| norm.forward(r, map)),
            None => Ok(map.clone()),
        }
    }
}

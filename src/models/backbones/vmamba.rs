//! VMamba (Liu et al., NeurIPS 2024), version 2, whose scan has no gate: `VSSM` with `v05_noz` blocks, under its names
//! (src/models/README.md, "VMamba").

use std::sync::Arc;

use super::on_maps::{BlockRunner, Hidden, MapBlock, MapEncoder, drop_path_places};
use crate::error::{Error, Result};
use crate::models::config::{Config, Family, FamilyFacts, MapPreset};
use crate::models::hierarchy::{Hierarchy, Stage};
use crate::models::unread::{OF_DECODERS, OF_TOKENS};
use crate::nn::{Conv2d, ConvConfig, Init, LayerNorm, Mlp, Params, Ss2dConfig, Ss2dMixer, Weights};
use crate::ops::activation::gelu;
use crate::ops::add::add_drop_path;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Depths of the paper's networks, and those of the newer ones, which have the maps' own width inside the scan.
const S2L5: [usize; 4] = [2, 2, 5, 2];
const S2L15: [usize; 4] = [2, 2, 15, 2];
const S1L8: [usize; 4] = [2, 2, 8, 2];
const S1L20: [usize; 4] = [2, 2, 20, 2];

impl Family {
    /// Scans of maps in four directions.
    pub const VMAMBA: Self = Self(&FamilyFacts {
        name: "vmamba",
        title: "VMamba",
        hierarchical: true,
        masked_pretraining: false,
        layers: "",
        unread: &[OF_TOKENS, OF_DECODERS, &["order"]],
        prefix_tokens: 0..=0,
        drop_path: |config| drop_path_places(config, |i, j| format!("layers.{i}.blocks.{j}"), &["op", "mlp"]),
        trunk: &["patch_embed", "layers"],
        feature_norm: Some(("outnorm", 1e-5)),
        classifier: &["classifier.norm", "classifier.head"],
        head: "classifier.head",
        layer: |config, name| {
            // what lies between two stages goes with the block in front of it
            let mut parts = name.strip_prefix("layers.")?.split('.');
            let (net, stage) = (config.hierarchy.as_ref()?, parts.next()?.parse::<usize>().ok()?);
            let block = match parts.next()? {
                "blocks" => parts.next()?.parse().ok()?,
                _ => net.stages.get(stage)?.depth.checked_sub(1)?,
            };
            net.block_number(stage, block)
        },
        translate,
        check: |config| {
            let net = config.stages()?;
            let first = net.stages.first().map_or(0, |stage| stage.width);
            if !first.is_multiple_of(2) {
                return Err(Error::argument("width of a VMamba's first stage", first, "an even number"));
            }
            let narrow = net.stages.iter().find(|stage| inner(net, stage) == 0);
            narrow.map_or(Ok(()), |stage| {
                let got = format!("{} at width {}", net.ssm_ratio, stage.width);
                Err(Error::argument("hierarchy.ssm_ratio", got, "at least 1 channel inside the scan"))
            })
        },
        named: &[
            MapPreset { name: "vmamba_micro", image_size: 32, with: |c| sized(c, 16, [1, 1, 2, 1], 2.0, 0.0) },
            MapPreset { name: "vmamba_tiny", image_size: 224, with: |c| sized(c, 96, S2L5, 2.0, 0.2) },
            MapPreset { name: "vmamba_small", image_size: 224, with: |c| sized(c, 96, S2L15, 2.0, 0.3) },
            MapPreset { name: "vmamba_base", image_size: 224, with: |c| sized(c, 128, S2L15, 2.0, 0.6) },
            MapPreset { name: "vmamba_tiny_s2l5", image_size: 224, with: |c| sized(c, 96, S2L5, 2.0, 0.2) },
            MapPreset { name: "vmamba_small_s2l15", image_size: 224, with: |c| sized(c, 96, S2L15, 2.0, 0.3) },
            MapPreset { name: "vmamba_base_s2l15", image_size: 224, with: |c| sized(c, 128, S2L15, 2.0, 0.6) },
            MapPreset { name: "vmamba_tiny_s1l8", image_size: 224, with: |c| sized(c, 96, S1L8, 1.0, 0.2) },
            MapPreset { name: "vmamba_small_s1l20", image_size: 224, with: |c| sized(c, 96, S1L20, 1.0, 0.3) },
            MapPreset { name: "vmamba_base_s1l20", image_size: 224, with: |c| sized(c, 128, S1L20, 1.0, 0.5) },
        ],
        mlp_ratio: 4.0,
        ..FamilyFacts::PLAIN
    });
}

/// `config` with stages of `depths` blocks, the first `width` wide and each twice as wide as the one before, and with
/// DropPath up to `drop_path`.
fn sized(config: Config, width: usize, depths: [usize; 4], ssm_ratio: f64, drop_path: f64) -> Config {
    let widths = [width, 2 * width, 4 * width, 8 * width];
    let hierarchy = Hierarchy { stages: Stage::list(&depths, &widths), ssm_ratio, ..Hierarchy::default() };
    Config { width: widths[3], states: 1, hierarchy: Some(hierarchy), drop_path, ..config }
}

/// Channels E inside the scan of a stage's blocks.
fn inner(net: &Hierarchy, stage: &Stage) -> usize {
    (net.ssm_ratio * stage.width as f64) as usize
}

/// Names of older VMamba checkpoints → today's, and weights of its `Linear2d`, which may be stored as those of 1×1
/// convolutions, (out, in, 1, 1) → (out, in).
fn translate(weights: &mut Weights) {
    for (theirs, (mut shape, values)) in std::mem::take(weights) {
        let name = theirs
            .replace("patch_embed.proj.", "patch_embed.0.")
            .replace("patch_embed.norm.", "patch_embed.2.")
            .replace(".ln_1.", ".norm.")
            .replace(".ln_2.", ".norm2.")
            .replace(".self_attention.", ".op.");
        let name = match name.split_once('.') {
            Some(("norm" | "head", _)) => format!("classifier.{name}"),
            _ => name,
        };
        let linear = ["in_proj.weight", "out_proj.weight", "fc1.weight", "fc2.weight"];
        if shape.len() == 4 && shape[2..] == [1, 1] && linear.iter().any(|end| name.ends_with(end)) {
            shape.truncate(2);
        }
        weights.insert(name, (shape, values));
    }
}

/// Convolution of 3×3 with stride 2 and bias, and the norm behind it: half of the stem, or what joins two stages.
#[derive(Debug, Clone)]
struct Downsampling {
    conv: Conv2d,
    norm: LayerNorm,
}

impl Downsampling {
    fn new(p: &mut Params, names: [&str; 2], (inputs, outputs): (usize, usize), eps: f32) -> Result<Self> {
        let conv = ConvConfig { stride: 2, bias: true, ..ConvConfig::dense(inputs, outputs, 3, Init::FanIn(1.0)) };
        Ok(Self { conv: Conv2d::new(p, names[0], conv)?, norm: LayerNorm::new(p, names[1], outputs, eps)? })
    }

    /// x (B, H, W, C) → (B, ⌈H/2⌉, ⌈W/2⌉, C')
    fn forward(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        let x = self.conv.forward(r, x)?;
        r.scope(&self.norm.name, |r| self.norm.forward(r, &x))
    }
}

/// x + SS2D(norm(x)), then x + MLP(norm2(x)): VMamba's `VSSBlock`.
#[derive(Debug, Clone)]
struct Block {
    norm: LayerNorm,
    op: Ss2dMixer,
    norm2: LayerNorm,
    mlp: Mlp,
    name: Arc<str>,
}

impl Block {
    /// Parameters `norm`, `op`, `norm2` and `mlp.{fc1,fc2}`.
    fn new(p: &mut Params, config: &Config, net: &Hierarchy, stage: &Stage) -> Result<Self> {
        let (width, eps, init) = (stage.width, config.eps(), config.linear_init());
        let mixer = Ss2dConfig { width, inner: inner(net, stage), states: config.states, eps, init };
        let hidden = (width as f64 * config.mlp_ratio) as usize;
        Ok(Self {
            norm: LayerNorm::new(p, "norm", width, eps)?,
            op: Ss2dMixer::new(p, "op", &mixer)?,
            norm2: LayerNorm::new(p, "norm2", width, eps)?,
            mlp: Mlp::new(p, width, hidden, init)?,
            name: p.path(),
        })
    }
}

/// The branches are scan and MLP.
impl MapBlock<2> for Block {
    fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// x (B, H, W, w) → the same shape.
    fn forward(&self, r: &mut Recorder, x: &Var, drop_path: [Option<&Tensor>; 2]) -> Result<Var> {
        let y = self.norm.operand(r, x)?;
        let [Some(op), Some(mlp)] = drop_path else {
            let x = self.op.forward(r, &y, Some(x))?;
            let y = self.norm2.operand(r, &x)?;
            return self.mlp.forward_onto(r, &y, Some(&x));
        };
        let y = self.op.forward(r, &y, None)?;
        let x = add_drop_path(r, x, &y, op)?;
        let y = self.norm2.operand(r, &x)?;
        let y = self.mlp.branch(r, &y)?;
        add_drop_path(r, &x, &y, mlp)
    }
}

/// The network.
#[derive(Debug, Clone)]
pub struct VMamba {
    stem: [Downsampling; 2],
    stages: Vec<Vec<Block>>,
    /// Between two stages.
    between: Vec<Downsampling>,
    /// In front of the mean over the last map, if a classifier reads that.
    norm: Option<LayerNorm>,
}

impl VMamba {
    /// Parameters under the official names, the norm in front of the head among them.
    pub fn new(params: &mut Params, config: &Config) -> Result<Self> {
        let (net, eps) = (config.stages()?, config.eps());
        let first = net.stages.first().map_or(0, |stage| stage.width);
        let stem = params.scope("patch_embed", |p| {
            let half = Downsampling::new(p, ["0", "2"], (3, first / 2), eps)?;
            Ok([half, Downsampling::new(p, ["5", "7"], (first / 2, first), eps)?])
        })?;
        let (mut stages, mut between) = (Vec::new(), Vec::new());
        for (i, stage) in net.stages.iter().enumerate() {
            let block =
                |j: usize| params.scope(&format!("layers.{i}.blocks.{j}"), |p| Block::new(p, config, net, stage));
            stages.push((0..stage.depth).map(block).collect::<Result<Vec<_>>>()?);
            if let Some(next) = net.stages.get(i + 1) {
                let widths = (stage.width, next.width);
                between.push(
                    params
                        .scope(&format!("layers.{i}.downsample"), |p| Downsampling::new(p, ["1", "3"], widths, eps))?,
                );
            }
        }
        let width = net.stages.last().map_or(0, |stage| stage.width);
        let norm = config.dense.is_none().then(|| LayerNorm::new(params, "classifier.norm", width, eps)).transpose()?;
        Ok(Self { stem, stages, between, norm })
    }
}

impl MapEncoder for VMamba {
    /// Strides 4, 8, 16 and 32. Rows 2i and 2i+1 of `drop_path` are those of scan and MLP of block i.
    fn stages(
        &self, r: &mut Recorder, image: &Var, _hidden: Option<&Hidden>, drop_path: Option<&Tensor>,
    ) -> Result<Vec<Var>> {
        let x = self.stem[0].forward(r, image)?;
        let x = gelu(r, &x)?;
        let mut x = self.stem[1].forward(r, &x)?;
        let (mut maps, mut blocks) = (Vec::new(), BlockRunner::new(drop_path));
        for (i, stage) in self.stages.iter().enumerate() {
            x = blocks.run(r, x, stage, None)?;
            maps.push(x.clone());
            if let Some(between) = self.between.get(i) {
                x = between.forward(r, &x)?;
            }
        }
        Ok(maps)
    }

    /// The norm is in front of the mean, not behind it.
    fn last(&self, r: &mut Recorder, map: &Var) -> Result<Var> {
        match &self.norm {
            Some(norm) => r.scope(&norm.name, |r| norm.forward(r, map)),
            None => Ok(map.clone()),
        }
    }
}

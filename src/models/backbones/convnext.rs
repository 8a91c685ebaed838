//! ConvNeXt (Liu et al. 2022): depthwise 7×7 convolutions, and per pixel what a transformer block does. timm's
//! `ConvNeXt` under timm's names (src/models/README.md, "ConvNeXt").

use std::sync::Arc;

use super::on_maps::{BlockRunner, Hidden, MapBlock, MapEncoder, add_branch, drop_path_places};
use crate::error::Result;
use crate::models::config::{Config, Family, FamilyFacts, MapPreset};
use crate::models::hierarchy::{Hierarchy, Stage};
use crate::models::unread::{OF_DECODERS, OF_SCANS, OF_TOKENS};
use crate::nn::{Conv2d, ConvConfig, Init, LayerNorm, Mlp, Padding, Params};
use crate::ops::reduce::mean_tokens;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Initial values of convolutions and linear layers.
const INIT: Init = Init::TruncNormal(0.02);

impl Family {
    /// ConvNeXt blocks.
    pub const CONVNEXT: Self = Self(&FamilyFacts {
        name: "convnext",
        title: "ConvNeXt",
        hierarchical: true,
        masked_pretraining: false,
        in_timm: true,
        layers: "",
        unread: &[OF_TOKENS, OF_DECODERS, OF_SCANS, &["order"]],
        prefix_tokens: 0..=0,
        eps: 1e-6,
        mlp_ratio: 4.0,
        drop_path: |config| drop_path_places(config, |i, j| format!("stages.{i}.blocks.{j}"), &[]),
        embedding: &["stem."],
        trunk: &["stem", "stages"],
        translate: |weights| {
            let named = std::mem::take(weights).into_iter();
            *weights = named.map(|(name, tensor)| (facebook_name(&name).unwrap_or(name), tensor)).collect();
        },
        feature_norm: Some(("norm", 1e-6)),
        classifier: &["head"],
        head: "head.fc",
        layer: |config, name| {
            let mut parts = name.strip_prefix("stages.")?.split('.');
            let (stage, kind, block) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?.parse().ok()?);
            let block = if kind == "blocks" { block } else { 0 }; // the downsampling goes with the stage's first block
            config.hierarchy.as_ref()?.block_number(stage, block)
        },
        named: &[
            MapPreset { name: "convnext_micro", image_size: 32, with: |c| sized(c, [1, 1, 2, 1], 24, 0.0) },
            MapPreset { name: "convnext_tiny", image_size: 224, with: |c| sized(c, [3, 3, 9, 3], 96, 0.1) },
            MapPreset { name: "convnext_small", image_size: 224, with: |c| sized(c, [3, 3, 27, 3], 96, 0.4) },
            MapPreset { name: "convnext_base", image_size: 224, with: |c| sized(c, [3, 3, 27, 3], 128, 0.5) },
        ],
        ..FamilyFacts::PLAIN
    });
}

/// `config` with stages of `depths` blocks; the first is `width` wide, and each is twice as wide as the one before.
fn sized(config: Config, depths: [usize; 4], width: usize, drop_path: f64) -> Config {
    let widths = [width, 2 * width, 4 * width, 8 * width];
    let stages = Stage::list(&depths, &widths);
    let hierarchy = Hierarchy { stages, layer_scale: Some(1e-6), ..Hierarchy::default() };
    Config { width: widths[3], drop_path, hierarchy: Some(hierarchy), ..config }
}

/// The names of Facebook's repository → timm's.
fn facebook_name(name: &str) -> Option<String> {
    let (module, leaf) = name.rsplit_once('.')?;
    match module {
        "norm" => return Some(format!("head.norm.{leaf}")),
        "head" => return Some(format!("head.fc.{leaf}")),
        _ => {}
    }
    if let Some(rest) = name.strip_prefix("downsample_layers.") {
        let (stage, rest) = rest.split_once('.')?;
        return Some(if stage == "0" { format!("stem.{rest}") } else { format!("stages.{stage}.downsample.{rest}") });
    }
    let (stage, rest) = name.strip_prefix("stages.")?.split_once('.')?;
    let (block, rest) = rest.split_once('.')?;
    block.parse::<usize>().ok()?; // timm has `blocks` or `downsample` here
    let parts = [("dwconv", "conv_dw"), ("pwconv1", "mlp.fc1"), ("pwconv2", "mlp.fc2")];
    let found = parts.iter().find_map(|(theirs, ours)| Some(format!("{ours}{}", rest.strip_prefix(theirs)?)));
    Some(format!("stages.{stage}.blocks.{block}.{}", found.unwrap_or_else(|| rest.to_owned())))
}

/// x + γ·MLP(LN(depthwise 7×7(x))).
#[derive(Debug, Clone)]
struct Block {
    conv: Conv2d,
    norm: LayerNorm,
    mlp: Mlp,
    gamma: Option<Var>,
    name: Arc<str>,
}

impl Block {
    /// Parameters `conv_dw`, `norm`, `mlp.fc1`, `mlp.fc2` and, with layer scale, `gamma`.
    fn new(p: &mut Params, width: usize, config: &Config, net: &Hierarchy) -> Result<Self> {
        let conv = ConvConfig { bias: true, ..ConvConfig::depthwise(width, 7, INIT) };
        let hidden = (width as f64 * config.mlp_ratio) as usize;
        let gamma = net.layer_scale.map(|at| p.add("gamma", &[width], &[width], Init::Constant(at as f32)));
        Ok(Self {
            conv: Conv2d::new(p, "conv_dw", conv)?,
            norm: LayerNorm::new(p, "norm", width, config.eps())?,
            mlp: Mlp::new(p, width, hidden, INIT)?,
            gamma: gamma.transpose()?,
            name: p.path(),
        })
    }
}

impl MapBlock<1> for Block {
    fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// x (B, H, W, C) → (B, H, W, C)
    fn forward(&self, r: &mut Recorder, x: &Var, [drop_path]: [Option<&Tensor>; 1]) -> Result<Var> {
        let h = self.conv.forward(r, x)?;
        let h = self.norm.operand(r, &h)?;
        if self.gamma.is_none() && drop_path.is_none() {
            return self.mlp.forward_onto(r, &h, Some(x));
        }
        let h = self.mlp.branch(r, &h)?;
        add_branch(r, x, &h, self.gamma.as_ref(), drop_path)
    }
}

/// A stage. All but the first begin with a norm and a 2×2 convolution of stride 2.
#[derive(Debug, Clone)]
struct ConvStage {
    downsample: Option<(LayerNorm, Conv2d)>,
    blocks: Vec<Block>,
}

/// The network.
#[derive(Debug, Clone)]
pub struct ConvNext {
    stem: (Conv2d, LayerNorm),
    stages: Vec<ConvStage>,
    /// Behind the mean over the last map, if a classifier reads that.
    norm: Option<LayerNorm>,
}

impl ConvNext {
    /// Parameters under timm's names.
    pub fn new(params: &mut Params, config: &Config) -> Result<Self> {
        let (net, eps) = (config.stages()?, config.eps());
        let shrink = |inputs, outputs, side| ConvConfig {
            stride: side,
            padding: Padding::Of(0),
            bias: true,
            ..ConvConfig::dense(inputs, outputs, side, INIT)
        };
        let first = net.stages.first().map_or(0, |stage| stage.width);
        let stem = (Conv2d::new(params, "stem.0", shrink(3, first, 4))?, LayerNorm::new(params, "stem.1", first, eps)?);
        let mut stages = Vec::new();
        for (i, (before, stage)) in net.widths(first).enumerate() {
            stages.push(params.scope(&format!("stages.{i}"), |p| {
                let downsample = |p: &mut Params| -> Result<_> {
                    let norm = LayerNorm::new(p, "downsample.0", before, eps)?;
                    Ok((norm, Conv2d::new(p, "downsample.1", shrink(before, stage.width, 2))?))
                };
                let downsample = if i > 0 { Some(downsample(p)?) } else { None };
                let block = |j: usize| p.scope(&format!("blocks.{j}"), |p| Block::new(p, stage.width, config, net));
                Ok(ConvStage { downsample, blocks: (0..stage.depth).map(block).collect::<Result<_>>()? })
            })?);
        }
        let norm =
            config.dense.is_none().then(|| LayerNorm::new(params, "head.norm", config.width, eps)).transpose()?;
        Ok(Self { stem, stages, norm })
    }
}

impl MapEncoder for ConvNext {
    /// Strides 4, 8, 16 and 32. Row i of `drop_path` is that of block i.
    fn stages(
        &self, r: &mut Recorder, image: &Var, _hidden: Option<&Hidden>, drop_path: Option<&Tensor>,
    ) -> Result<Vec<Var>> {
        let (conv, norm) = &self.stem;
        let x = conv.forward(r, image)?;
        let mut x = r.scope(&norm.name, |r| norm.forward(r, &x))?;
        let (mut maps, mut blocks) = (Vec::new(), BlockRunner::new(drop_path));
        for stage in &self.stages {
            if let Some((norm, conv)) = &stage.downsample {
                let normed = r.scope(&norm.name, |r| norm.operand(r, &x))?;
                x = conv.forward(r, &normed)?;
            }
            x = blocks.run(r, x, &stage.blocks, None)?;
            maps.push(x.clone());
        }
        Ok(maps)
    }

    fn pool(&self, r: &mut Recorder, cells: &Var) -> Result<Var> {
        let mean = mean_tokens(r, cells)?;
        match &self.norm {
            Some(norm) => r.scope(&norm.name, |r| norm.forward(r, &mean)),
            None => Ok(mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_facebook_become_those_of_timm() {
        for (theirs, ours) in [
            ("downsample_layers.0.0.weight", "stem.0.weight"),
            ("downsample_layers.0.1.bias", "stem.1.bias"),
            ("downsample_layers.2.1.weight", "stages.2.downsample.1.weight"),
            ("stages.1.2.dwconv.weight", "stages.1.blocks.2.conv_dw.weight"),
            ("stages.1.2.norm.bias", "stages.1.blocks.2.norm.bias"),
            ("stages.3.0.pwconv1.weight", "stages.3.blocks.0.mlp.fc1.weight"),
            ("stages.3.0.pwconv2.bias", "stages.3.blocks.0.mlp.fc2.bias"),
            ("stages.0.0.gamma", "stages.0.blocks.0.gamma"),
            ("norm.weight", "head.norm.weight"),
            ("head.bias", "head.fc.bias"),
        ] {
            assert_eq!(facebook_name(theirs).as_deref(), Some(ours));
            assert_eq!(facebook_name(ours), None, "a name of timm stays");
        }
    }
}

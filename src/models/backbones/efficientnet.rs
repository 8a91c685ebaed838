//! EfficientNet (Tan and Le 2019): inverted bottlenecks of depthwise convolutions with squeeze-and-excitation. timm's
//! `EfficientNet` under timm's names (src/models/README.md, "EfficientNet").

use std::sync::Arc;

use super::on_maps::{BlockRunner, Hidden, MapBlock, MapEncoder, add_branch};
use crate::error::Result;
use crate::models::config::{Config, Family, FamilyFacts, MapPreset};
use crate::models::hierarchy::{Hierarchy, Stage};
use crate::models::options::TestView;
use crate::models::unread::{OF_ATTENTION, OF_DECODERS, OF_SCANS, OF_TOKENS};
use crate::nn::{BatchNormConfig, ConvConfig, ConvNorm, Init, Linear, Padding, Params};
use crate::ops::activation::silu;
use crate::ops::batch_norm::BatchNormAct;
use crate::ops::channel_gate::channel_gate;
use crate::ops::pool::global_average;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

impl Family {
    /// Inverted bottlenecks.
    pub const EFFICIENTNET: Self = Self(&FamilyFacts {
        name: "efficientnet",
        title: "EfficientNet",
        hierarchical: true,
        masked_pretraining: false,
        widens: true,
        in_timm: true,
        layers: "",
        unread: &[OF_TOKENS, OF_DECODERS, OF_SCANS, OF_ATTENTION, &["order", "init"]],
        prefix_tokens: 0..=0,
        // index over count, as in timm's EfficientNet, so that the last block's rate is below p
        drop_path: |config| match &config.hierarchy {
            Some(net) => {
                let (p, count) = (config.drop_path, net.depth().max(1) as f64);
                let place = |(n, (i, j)): (usize, _)| (format!("blocks.{i}.{j}"), p * n as f64 / count);
                net.blocks().enumerate().map(place).collect()
            }
            None => Vec::new(),
        },
        feature_stages: coarsest_of_each_stride,
        embedding: &["conv_stem.", "bn1."],
        trunk: &["conv_stem", "bn1", "blocks", "conv_head", "bn2"],
        classifier: &["classifier"],
        head: "classifier",
        head_init: |config| Init::Uniform((config.classes.max(1) as f32).sqrt().recip()),
        layer: |config, name| {
            let mut parts = name.strip_prefix("blocks.")?.split('.');
            let (stage, block) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            config.hierarchy.as_ref()?.block_number(stage, block)
        },
        named: &[
            MapPreset { name: "efficientnet_micro", image_size: 32, with: micro },
            MapPreset { name: "efficientnet_b3", image_size: 288, with: b3 },
            MapPreset { name: "tf_efficientnet_b3", image_size: 300, with: tf_b3 },
        ],
        ..FamilyFacts::PLAIN
    });
}

/// The last stage of each stride from 4 on: those that timm's `features_only` shows.
fn coarsest_of_each_stride(net: &Hierarchy) -> Vec<usize> {
    let mut stride = 2; // of the stem
    let mut last: Vec<(usize, usize)> = Vec::new();
    for (i, stage) in net.stages.iter().enumerate() {
        stride *= stage.stride;
        last.retain(|&(of, _)| of != stride);
        last.push((stride, i));
    }
    last.retain(|&(of, _)| of >= 4);
    last.into_iter().map(|(_, stage)| stage).collect()
}

/// [blocks, side of the kernel, stride of the first block, expansion, width]
fn stages<const N: usize>(rows: [[usize; 5]; N]) -> Vec<Stage> {
    let stage = |[depth, kernel, stride, expansion, width]: [usize; 5]| Stage {
        depth,
        kernel,
        stride,
        expansion,
        width,
        ..Stage::default()
    };
    rows.map(stage).to_vec()
}

/// For images of 32 to 64 pixels.
fn micro(config: Config) -> Config {
    let stages = stages([[1, 3, 1, 1, 16], [2, 3, 1, 4, 32], [2, 5, 2, 4, 64], [2, 3, 2, 4, 112]]);
    Config { width: 320, hierarchy: Some(Hierarchy { stem: 24, stages, ..Hierarchy::default() }), ..config }
}

/// B3: widths and depths of B0 times 1.2 and 1.4, rounded.
fn b3(config: Config) -> Config {
    let stages = stages([
        [2, 3, 1, 1, 24],
        [3, 3, 2, 6, 32],
        [3, 5, 2, 6, 48],
        [5, 3, 2, 6, 96],
        [5, 5, 1, 6, 136],
        [6, 5, 2, 6, 232],
        [2, 3, 1, 6, 384],
    ]);
    let hierarchy = Hierarchy { stem: 40, stages, ..Hierarchy::default() };
    let test_view = TestView::crop(0.875);
    Config { width: 1536, drop_path: 0.2, dropout: 0.3, test_view, hierarchy: Some(hierarchy), ..config }
}

/// B3 as TensorFlow trained it: its padding, and its batch norms.
fn tf_b3(config: Config) -> Config {
    let config = b3(config);
    let tensorflow = |net| Hierarchy { same_padding: true, batch_norm_eps: 1e-3, batch_norm_momentum: 0.01, ..net };
    Config { test_view: TestView::crop(0.904), hierarchy: config.hierarchy.map(tensorflow), ..config }
}

/// The settings that all convolutions of a network share.
#[derive(Debug, Clone, Copy)]
struct Settings {
    norms: BatchNormConfig,
    same: bool,
}

impl Settings {
    fn of(net: &Hierarchy) -> Self {
        Self { norms: net.batch_norm(), same: net.same_padding }
    }

    /// A dense convolution with its batch norm.
    fn dense(
        self, p: &mut Params, names: [&str; 2], (inputs, outputs): (usize, usize), kernel: usize, stride: usize,
    ) -> Result<ConvNorm> {
        self.build(p, names, ConvConfig { stride, ..ConvConfig::dense(inputs, outputs, kernel, Init::KaimingFanOut) })
    }

    /// A depthwise convolution with its batch norm. Its fan-out is that of one channel.
    fn depthwise(self, p: &mut Params, norm: &str, width: usize, kernel: usize, stride: usize) -> Result<ConvNorm> {
        let init = Init::Normal((2.0 / (kernel * kernel) as f32).sqrt());
        self.build(p, ["conv_dw", norm], ConvConfig { stride, ..ConvConfig::depthwise(width, kernel, init) })
    }

    fn build(self, p: &mut Params, names: [&str; 2], conv: ConvConfig) -> Result<ConvNorm> {
        let padding = if self.same { Padding::Same } else { conv.padding };
        ConvNorm::new(p, names, ConvConfig { padding, ..conv }, self.norms, Init::Ones)
    }
}

/// Squeeze-and-excitation: x·σ(W₂·SiLU(W₁·mean(x))).
#[derive(Debug, Clone)]
struct SqueezeExcite {
    reduce: Linear,
    expand: Linear,
}

impl SqueezeExcite {
    /// Parameters `se.conv_reduce` and `se.conv_expand`, 1×1 convolutions with biases.
    fn new(params: &mut Params, width: usize, squeezed: usize) -> Result<Self> {
        let init = Init::KaimingFanOut;
        params.scope("se", |p| {
            let reduce = Linear::pointwise(p, "conv_reduce", (width, squeezed), 2, init)?;
            Ok(Self { reduce, expand: Linear::pointwise(p, "conv_expand", (squeezed, width), 2, init)? })
        })
    }

    /// x (B, H, W, C) → (B, H, W, C)
    fn forward(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        let mean = global_average(r, x)?; // (B, C)
        let a = r.scope(&self.reduce.name, |r| self.reduce.forward(r, &mean))?;
        let h = silu(r, &a)?;
        let t = r.scope(&self.expand.name, |r| self.expand.forward(r, &h))?;
        channel_gate(r, x, &t)
    }
}

/// Expansion (not in the first stage), depthwise convolution, squeeze-and-excitation, and a projection without
/// activation.
#[derive(Debug, Clone)]
struct InvertedBottleneck {
    expand: Option<ConvNorm>,
    depthwise: ConvNorm,
    squeeze: SqueezeExcite,
    project: ConvNorm,
    /// Whether the input is added: it has the shape of the result.
    residual: bool,
    name: Arc<str>,
}

impl InvertedBottleneck {
    /// Parameters `conv_pw, bn1, conv_dw, bn2, se, conv_pwl, bn3`; without expansion `conv_dw, bn1, se, conv_pw, bn2`.
    fn new(p: &mut Params, inputs: usize, stage: &Stage, stride: usize, settings: Settings) -> Result<Self> {
        let (inner, outputs, kernel) = (inputs * stage.expansion, stage.width, stage.kernel);
        let expands = stage.expansion > 1;
        let [norm, projection, last] = if expands { ["bn2", "conv_pwl", "bn3"] } else { ["bn1", "conv_pw", "bn2"] };
        let expand = |p: &mut Params| settings.dense(p, ["conv_pw", "bn1"], (inputs, inner), 1, 1);
        Ok(Self {
            expand: if expands { Some(expand(p)?) } else { None },
            depthwise: settings.depthwise(p, norm, inner, kernel, stride)?,
            squeeze: SqueezeExcite::new(p, inner, squeezed(inputs))?,
            project: settings.dense(p, [projection, last], (inner, outputs), 1, 1)?,
            residual: stride == 1 && inputs == outputs,
            name: p.path(),
        })
    }
}

impl MapBlock<1> for InvertedBottleneck {
    fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// x (B, H, W, C) → (B, H', W', O)
    fn forward(&self, r: &mut Recorder, x: &Var, [drop_path]: [Option<&Tensor>; 1]) -> Result<Var> {
        let mut y = x.clone();
        for conv in self.expand.iter().chain([&self.depthwise]) {
            y = conv.forward(r, &y, BatchNormAct::Silu)?;
        }
        y = self.squeeze.forward(r, &y)?;
        y = self.project.forward(r, &y, BatchNormAct::None)?;
        if self.residual { add_branch(r, x, &y, None, drop_path) } else { Ok(y) }
    }
}

/// Squeezed width of a block: a quarter of its input's channels, not of the expanded ones.
fn squeezed(inputs: usize) -> usize {
    ((inputs as f64 / 4.0).round_ties_even() as usize).max(1)
}

/// The network.
#[derive(Debug, Clone)]
pub struct EfficientNet {
    stem: ConvNorm,
    stages: Vec<Vec<InvertedBottleneck>>,
    /// In front of the mean over the last map, if a classifier reads that.
    head: Option<ConvNorm>,
}

impl EfficientNet {
    /// Parameters under timm's names.
    pub fn new(params: &mut Params, config: &Config) -> Result<Self> {
        let net = config.stages()?;
        let settings = Settings::of(net);
        let stem = settings.dense(params, ["conv_stem", "bn1"], (3, net.stem), 3, 2)?;
        let (mut stages, mut last) = (Vec::new(), net.stem);
        for (i, (before, stage)) in net.widths(net.stem).enumerate() {
            let block = |j: usize| {
                let (inputs, stride) = if j == 0 { (before, stage.stride) } else { (stage.width, 1) };
                let name = format!("blocks.{i}.{j}");
                params.scope(&name, |p| InvertedBottleneck::new(p, inputs, stage, stride, settings))
            };
            stages.push((0..stage.depth).map(block).collect::<Result<_>>()?);
            last = stage.width;
        }
        let head = || settings.dense(params, ["conv_head", "bn2"], (last, config.width), 1, 1);
        Ok(Self { stem, stages, head: config.dense.is_none().then(head).transpose()? })
    }
}

impl MapEncoder for EfficientNet {
    /// Row i of `drop_path` is that of block i.
    fn stages(
        &self, r: &mut Recorder, image: &Var, _hidden: Option<&Hidden>, drop_path: Option<&Tensor>,
    ) -> Result<Vec<Var>> {
        let mut x = self.stem.forward(r, image, BatchNormAct::Silu)?;
        let (mut maps, mut blocks) = (Vec::new(), BlockRunner::new(drop_path));
        for stage in &self.stages {
            x = blocks.run(r, x, stage, None)?;
            maps.push(x.clone());
        }
        Ok(maps)
    }

    fn last(&self, r: &mut Recorder, map: &Var) -> Result<Var> {
        match &self.head {
            Some(head) => head.forward(r, map, BatchNormAct::Silu),
            None => Ok(map.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_tasks_read_the_maps_of_timms_features() {
        // timm.create_model("efficientnet_b3", features_only=True).feature_info.channels(), from stride 4 on
        assert_eq!(Config::preset("efficientnet_b3").unwrap().map_widths().unwrap(), [32, 48, 136, 384]);
        // whose last map has stride 8
        let micro = Config::preset("efficientnet_micro").unwrap();
        assert_eq!(coarsest_of_each_stride(micro.stages().unwrap()), [2, 3]);
    }
}

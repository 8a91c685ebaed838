//! ResNet (He et al. 2016) with bottleneck blocks, v1.5: the stride is in the 3×3 convolution. timm's `ResNet` under
//! timm's names, which are torchvision's too (src/models/README.md, "ResNet").

use std::sync::Arc;

use super::on_maps::{BlockRunner, Hidden, MapBlock, MapEncoder, add_branch, drop_path_places};
use crate::error::{Error, Result};
use crate::models::config::{Config, Family, FamilyFacts, MapPreset};
use crate::models::hierarchy::{Hierarchy, Stage};
use crate::models::options::{Interpolation, TestView};
use crate::models::unread::{OF_ATTENTION, OF_DECODERS, OF_SCANS, OF_TOKENS};
use crate::nn::{BatchNormConfig, ConvConfig, ConvNorm, Init, Params};
use crate::ops::activation::relu;
use crate::ops::batch_norm::BatchNormAct;
use crate::ops::pool::{Windows, max_pool};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// A bottleneck block is this much wider than its 3×3 convolution.
const EXPANSION: usize = 4;

impl Family {
    /// Bottleneck blocks.
    pub const RESNET: Self = Self(&FamilyFacts {
        name: "resnet",
        title: "ResNet",
        hierarchical: true,
        dilates: true,
        masked_pretraining: false,
        in_timm: true,
        layers: "",
        unread: &[OF_TOKENS, OF_DECODERS, OF_SCANS, OF_ATTENTION, &["order", "init"]],
        prefix_tokens: 0..=0,
        drop_path: |config| drop_path_places(config, |i, j| format!("layer{}.{j}", i + 1), &[]),
        embedding: &["conv1.", "bn1."],
        trunk: &["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"],
        classifier: &["fc"],
        head: "fc",
        head_init: |_| Init::FanIn(1.0),
        layer: |config, name| {
            let mut parts = name.strip_prefix("layer")?.split('.');
            let (stage, block) = (parts.next()?.parse::<usize>().ok()?, parts.next()?.parse().ok()?);
            config.hierarchy.as_ref()?.block_number(stage.checked_sub(1)?, block)
        },
        check: |config| {
            let net = config.stages()?;
            let odd = net.stages.iter().find(|stage| !stage.width.is_multiple_of(EXPANSION));
            odd.map_or(Ok(()), |stage| {
                Err(Error::argument("width of a ResNet's stage", stage.width, "a multiple of 4"))
            })
        },
        named: &[
            MapPreset { name: "resnet_micro", image_size: 32, with: |c| sized(c, [1, 1, 1, 1], 64, 16) },
            MapPreset { name: "resnet50", image_size: 224, with: |c| sized(c, [3, 4, 6, 3], 256, 64) },
            MapPreset { name: "resnet101", image_size: 224, with: |c| sized(c, [3, 4, 23, 3], 256, 64) },
            MapPreset { name: "resnet152", image_size: 224, with: |c| sized(c, [3, 8, 36, 3], 256, 64) },
        ],
        ..FamilyFacts::PLAIN
    });
}

/// `config` with stages of `depths` blocks; the first is `width` wide, and each is twice as wide as the one before.
fn sized(config: Config, depths: [usize; 4], width: usize, stem: usize) -> Config {
    let widths = [width, 2 * width, 4 * width, 8 * width];
    let hierarchy = Hierarchy { stem, stages: Stage::list(&depths, &widths), ..Hierarchy::default() };
    // torchvision's first weights, which Table 8 has
    let test_view = TestView { interpolation: Interpolation::Bilinear, ..TestView::default() };
    Config { width: widths[3], test_view, hierarchy: Some(hierarchy), ..config }
}

/// x + bn3(conv3(relu(bn2(conv2(relu(bn1(conv1(x)))))))), and ReLU behind the sum.
#[derive(Debug, Clone)]
struct Bottleneck {
    conv1: ConvNorm,
    conv2: ConvNorm,
    conv3: ConvNorm,
    /// Brings the input to the shape of the sum.
    downsample: Option<ConvNorm>,
    name: Arc<str>,
}

impl Bottleneck {
    /// Parameters `{conv,bn}{1,2,3}` and `downsample.{0,1}`.
    fn new(
        p: &mut Params, (inputs, outputs): (usize, usize), (stride, dilation): (usize, usize), norms: BatchNormConfig,
    ) -> Result<Self> {
        let c = outputs / EXPANSION;
        let conv = |inputs, outputs, kernel| ConvConfig::dense(inputs, outputs, kernel, Init::KaimingFanOut);
        let shortcut = ConvConfig { stride, ..conv(inputs, outputs, 1) };
        let middle = ConvConfig { stride, ..conv(c, c, 3).dilated(dilation) };
        let downsample = stride > 1 || inputs != outputs;
        Ok(Self {
            conv1: ConvNorm::new(p, ["conv1", "bn1"], conv(inputs, c, 1), norms, Init::Ones)?,
            conv2: ConvNorm::new(p, ["conv2", "bn2"], middle, norms, Init::Ones)?,
            conv3: ConvNorm::new(p, ["conv3", "bn3"], conv(c, outputs, 1), norms, Init::Zeros)?,
            downsample: downsample
                .then(|| ConvNorm::new(p, ["downsample.0", "downsample.1"], shortcut, norms, Init::Ones))
                .transpose()?,
            name: p.path(),
        })
    }
}

impl MapBlock<1> for Bottleneck {
    fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// x (B, H, W, C) → (B, H', W', 4c)
    fn forward(&self, r: &mut Recorder, x: &Var, [drop_path]: [Option<&Tensor>; 1]) -> Result<Var> {
        let y = self.conv1.forward(r, x, BatchNormAct::Relu)?;
        let y = self.conv2.forward(r, &y, BatchNormAct::Relu)?;
        let y = self.conv3.forward(r, &y, BatchNormAct::None)?;
        let x = match &self.downsample {
            Some(downsample) => downsample.forward(r, x, BatchNormAct::None)?,
            None => x.clone(),
        };
        let y = add_branch(r, &x, &y, None, drop_path)?;
        relu(r, &y)
    }
}

/// The network.
#[derive(Debug, Clone)]
pub struct ResNet {
    stem: ConvNorm,
    stages: Vec<Vec<Bottleneck>>,
}

impl ResNet {
    /// Parameters under timm's names. The last batch norm of a block starts at zero, so that the block starts as the
    /// identity.
    pub fn new(params: &mut Params, config: &Config) -> Result<Self> {
        let (net, norms) = (config.stages()?, config.stages()?.batch_norm());
        let first = ConvConfig { stride: 2, ..ConvConfig::dense(3, net.stem, 7, Init::KaimingFanOut) };
        let stem = ConvNorm::new(params, ["conv1", "bn1"], first, norms, Init::Ones)?;
        let (mut stages, mut reached, mut dilation) = (Vec::new(), 4, 1);
        for (i, (before, stage)) in net.widths(net.stem).enumerate() {
            let halves = i > 0 && reached < net.output_stride;
            let inherited = dilation; // by the first block of a stage that does not halve its map
            match (i, halves) {
                (0, _) => {}
                (_, true) => reached *= 2,
                (_, false) => dilation *= 2,
            }
            let block = |j: usize| {
                let (inputs, stride) = if j == 0 { (before, 1 + usize::from(halves)) } else { (stage.width, 1) };
                let apart = if j == 0 { inherited } else { dilation };
                let name = format!("layer{}.{j}", i + 1);
                params.scope(&name, |p| Bottleneck::new(p, (inputs, stage.width), (stride, apart), norms))
            };
            stages.push((0..stage.depth).map(block).collect::<Result<_>>()?);
        }
        Ok(Self { stem, stages })
    }
}

impl MapEncoder for ResNet {
    /// Strides 4, 8, 16 and 32, none above [`Hierarchy::output_stride`]. Row i of `drop_path` is that of block i.
    fn stages(
        &self, r: &mut Recorder, image: &Var, _hidden: Option<&Hidden>, drop_path: Option<&Tensor>,
    ) -> Result<Vec<Var>> {
        let x = self.stem.forward(r, image, BatchNormAct::Relu)?;
        let mut x = max_pool(r, &x, Windows::RESNET)?;
        let (mut maps, mut blocks) = (Vec::new(), BlockRunner::new(drop_path));
        for stage in &self.stages {
            x = blocks.run(r, x, stage, None)?;
            maps.push(x.clone());
        }
        Ok(maps)
    }
}

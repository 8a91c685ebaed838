//! The region proposal network (Ren et al. 2015), as detectron2's ViTDet has it.

use super::boxes::Region;
use crate::error::{Error, Result};
use crate::gpu::DType;
use crate::nn::{Conv2d, ConvConfig, Init, Params};
use crate::ops::activation::relu;
use crate::ops::add::add;
use crate::ops::masked_loss::{Divisor, bce_with_logits, l1};
use crate::ops::reshape::reshape;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Scores anchors and moves them to objects: two 3×3 convolutions that all levels of the pyramid share, and two 1×1
/// convolutions behind them.
#[derive(Debug, Clone)]
pub struct RegionProposals {
    convs: Vec<Conv2d>,
    objectness: Conv2d,
    deltas: Conv2d,
    anchors: usize,
}

/// What the network says of the anchors of a level, by row, column and shape.
#[derive(Debug, Clone)]
pub struct LevelProposals {
    /// Scores (B, n): positive for an object.
    pub objectness: Var,
    /// Deltas (B, n, 4) to the object.
    pub deltas: Var,
}

/// What the anchors of a level should have said. Made on the host, since neither anchors nor truths depend on the
/// network.
#[derive(Debug, Clone)]
pub struct RegionTargets {
    /// (B, n): 1 for a sampled object, else 0.
    pub object: Tensor,
    /// (B, n): 1 for a sampled anchor, else 0.
    pub sampled: Tensor,
    /// (B, n, 4): the deltas to the truth, where there is a sampled object.
    pub deltas: Tensor,
}

impl RegionTargets {
    /// The values of the three tensors for the anchors of one picture, in order. `objects` and `background` are sampled
    /// indices; `truth` is the index of each anchor's truth.
    pub fn values(
        anchors: &[Region], truths: &[Region], truth: &[usize], [objects, background]: [&[usize]; 2],
    ) -> [Vec<f32>; 3] {
        let mut values = [vec![0.0; anchors.len()], vec![0.0; anchors.len()], vec![0.0; 4 * anchors.len()]];
        for i in objects {
            (values[0][*i], values[1][*i]) = (1.0, 1.0);
            let deltas = super::boxes::encode(&anchors[*i], &truths[truth[*i]], &[1.0; 4]);
            values[2][4 * i..][..4].copy_from_slice(&deltas.map(|v| v as f32));
        }
        background.iter().for_each(|i| values[1][*i] = 1.0);
        values
    }
}

impl RegionProposals {
    /// Parameters `rpn_head.{conv.conv0, …, objectness_logits, anchor_deltas}` for `anchors` of a cell. `convs`: 3×3
    /// convolutions, 2 in ViTDet; a single one is `rpn_head.conv`.
    pub fn new(params: &mut Params, channels: usize, convs: usize, anchors: usize) -> Result<Self> {
        let conv = |p: &mut Params, name: &str, outputs, kernel| {
            let config = ConvConfig { bias: true, ..ConvConfig::dense(channels, outputs, kernel, Init::Normal(0.01)) };
            Conv2d::new(p, name, config)
        };
        params.scope("rpn_head", |p| {
            let named = |i: usize| if convs == 1 { "conv".to_string() } else { format!("conv.conv{i}") };
            let convs = (0..convs).map(|i| conv(p, &named(i), channels, 3)).collect::<Result<_>>()?;
            let objectness = conv(p, "objectness_logits", anchors, 1)?;
            Ok(Self { convs, objectness, deltas: conv(p, "anchor_deltas", 4 * anchors, 1)?, anchors })
        })
    }

    /// Maps (B, h, w, C) of all levels → scores and deltas of their anchors.
    pub fn forward(&self, r: &mut Recorder, maps: &[Var]) -> Result<Vec<LevelProposals>> {
        let mut levels = Vec::new();
        for map in maps {
            let [b, h, w, _] = map.data.dims("region proposals: map")?;
            let mut x = map.clone();
            for conv in &self.convs {
                x = conv.forward(r, &x)?;
                x = relu(r, &x)?;
            }
            let n = h * w * self.anchors;
            let objectness = self.objectness.forward_as(r, &x, DType::F32)?;
            let deltas = self.deltas.forward_as(r, &x, DType::F32)?;
            levels.push(LevelProposals {
                objectness: reshape(r, &objectness, &[b, n])?,
                deltas: reshape(r, &deltas, &[b, n, 4])?,
            });
        }
        Ok(levels)
    }

    /// The losses of objectness and of deltas, (1) each. Both are divided by `sampled` anchors of each picture, also
    /// where fewer were sampled.
    ///
    /// # Errors
    /// If there are no levels, or not as many targets.
    pub fn losses(
        &self, r: &mut Recorder, levels: &[LevelProposals], targets: &[RegionTargets], sampled: usize,
    ) -> Result<[Var; 2]> {
        let mut sums: Option<[Var; 2]> = None;
        if levels.len() != targets.len() {
            return Err(Error::argument(
                "region proposals: targets",
                targets.len(),
                format!("{} levels", levels.len()),
            ));
        }
        for (level, target) in levels.iter().zip(targets) {
            let [b, _] = level.objectness.data.dims("objectness")?;
            let divisor = Divisor::Of((sampled * b) as f64);
            let objects = bce_with_logits(r, &level.objectness, &target.object, &target.sampled, divisor)?;
            let deltas = l1(r, &level.deltas, &target.deltas, &target.object, divisor)?;
            sums = Some(match sums {
                Some([first, second]) => [add(r, &first, &objects)?, add(r, &second, &deltas)?],
                None => [objects, deltas],
            });
        }
        sums.ok_or_else(|| Error::argument("region proposals: levels", 0, "at least 1"))
    }
}

//! Kinds `upernet` and `deeplab`: a segmentation head on given features. A pass in training, and one in evaluation on
//! the running statistics before.

use super::compare::{FixtureReport, GRADIENT, OUTPUT};
use super::fixture::Fixture;
use super::hierarchy::{buffers, sizes};
use super::maps::{channels_first, channels_last};
use super::model::{axis, gradients, loss, weights};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::dense::{
    DeepLab, DeepLabConfig, FeatureMaps, PixelScores, SegmentationLosses, UperNet, UperNetConfig,
};
use crate::nn::{BatchNormConfig, Params};
use crate::ops::pixel_loss::PixelMean;
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

/// A head of the file.
enum Head {
    UperNet(Box<UperNet>),
    DeepLab(Box<DeepLab>),
}

impl Head {
    fn new(params: &mut Params, f: &Fixture) -> Result<Self> {
        let classes = f.size("num_classes", 150)?;
        let norms = BatchNormConfig { eps: f.number("bn_eps", 1e-5)? as f32, momentum: f.number("bn_momentum", 0.1)? };
        let mean = if f.flag("avg_non_ignore", false)? { PixelMean::Labeled } else { PixelMean::All };
        let auxiliary = axis(f, "param.auxiliary_head.conv_seg.weight", 1);
        let auxiliary_weight = f.number("aux_weight", 0.4)?;
        let widths = f.numbers("widths").map(|_| four(f, "widths")).transpose()?;
        if f.kind == "deeplab" {
            let default = DeepLabConfig::new(widths.ok_or_else(|| f.error("config has no `widths`"))?, classes);
            let given = f.numbers("dilations").map(|_| sizes(f, "dilations")).transpose()?;
            let config = DeepLabConfig {
                channels: f.size("channels", default.channels)?,
                projection: f.size("c1_channels", default.projection)?,
                dilations: given.unwrap_or_else(|| default.dilations.clone()),
                auxiliary,
                auxiliary_weight,
                mean,
                norms,
                ..default
            };
            return Ok(Self::DeepLab(Box::new(DeepLab::new(params, &config)?)));
        }
        let features = match widths {
            Some(widths) => FeatureMaps::Pyramid(widths),
            None => FeatureMaps::Depths(f.size("dim", 192)?),
        };
        let default = UperNetConfig::new(features, classes);
        let config = UperNetConfig {
            channels: f.size("channels", default.channels)?,
            auxiliary,
            pools: if f.numbers("pool_scales").is_some() { sizes(f, "pool_scales")? } else { default.pools.clone() },
            auxiliary_weight,
            mean,
            norms,
            ..default
        };
        Ok(Self::UperNet(Box::new(UperNet::new(params, &config)?)))
    }

    fn forward(&self, r: &mut Recorder, maps: [&Var; 4], factors: [Option<&Tensor>; 2]) -> Result<PixelScores> {
        match self {
            Self::UperNet(head) => head.forward(r, maps, factors),
            Self::DeepLab(head) => head.forward(r, maps, factors),
        }
    }

    fn losses(&self, r: &mut Recorder, scores: &PixelScores, labels: &Tensor) -> Result<SegmentationLosses> {
        match self {
            Self::UperNet(head) => head.losses(r, scores, labels),
            Self::DeepLab(head) => head.losses(r, scores, labels),
        }
    }
}

/// Four whole numbers of the configuration.
fn four(f: &Fixture, key: &str) -> Result<[usize; 4]> {
    sizes(f, key)?.try_into().map_err(|found| f.error(format!("config `{key}` is {found:?}, expected four numbers")))
}

pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    if f.flag("align_corners", false)? {
        return Err(f.error("config `align_corners` is true, expected false"));
    }
    let mut params = Params::new(g);
    let model = Head::new(&mut params, f)?;
    params.load(g, &weights(f))?;
    let feature = |i: usize| {
        let (shape, values) = channels_last(f.get(&format!("input.features.{i}"))?);
        Tensor::from_slice(g, &shape, &values).map(Var::leaf)
    };
    let features = [feature(0)?, feature(1)?, feature(2)?, feature(3)?];
    let [a, b, c, d] = &features;

    let mut r = Recorder::inference(g);
    let scores = model.forward(&mut r, [a, b, c, d], [None; 2])?;
    r.run()?;
    map(g, f, report, "output.eval_logits", &scores.logits)?;

    let keep = 1.0 - f.number("dropout_ratio", 0.1)?;
    let factors = |head: &str| {
        let Some(draws) = f.find(&format!("input.dropout.{head}.keep")).or(f.find(&format!("dropout.{head}.keep")))
        else {
            return Ok(None);
        };
        let factors: Vec<f32> = draws.values.iter().map(|draw| (draw / keep) as f32).collect();
        Tensor::from_slice(g, &draws.shape, &factors).map(Some)
    };
    let (decode, auxiliary) = (factors("decode")?, factors("aux")?);
    let labels = f.get("input.labels")?;
    let classes: Vec<u32> = labels.values.iter().map(|label| *label as u32).collect();
    let labels = Tensor::from_indices(g, &labels.shape, &classes)?;
    let mut r = Recorder::new(g);
    let scores = model.forward(&mut r, [a, b, c, d], [decode.as_ref(), auxiliary.as_ref()])?;
    let losses = model.losses(&mut r, &scores, &labels)?;
    let grads = r.backward(&losses.total, params.grads())?;
    r.run()?;
    for (i, level) in scores.levels.iter().enumerate() {
        map(g, f, report, &format!("act.levels.{i}"), level)?;
    }
    map(g, f, report, "output.logits", &scores.logits)?;
    if let (Some(logits), Some(auxiliary)) = (&scores.auxiliary, &losses.auxiliary) {
        map(g, f, report, "output.aux_logits", logits)?;
        loss(g, f, report, "output.loss_aux", auxiliary)?;
    }
    loss(g, f, report, "output.loss_decode", &losses.decode)?;
    loss(g, f, report, "output.loss", &losses.total)?;
    buffers(g, f, report, &params)?;
    gradients(g, f, report, &params, &grads, |name| (name.to_string(), None))?;
    for (i, feature) in features.iter().enumerate() {
        input_gradient(g, f, report, &format!("input.features.{i}"), feature, &grads)?;
    }
    Ok(())
}

/// Compares a map if the file has it.
pub(super) fn map(g: &Gpu, f: &Fixture, report: &mut FixtureReport, name: &str, ours: &Var) -> Result<()> {
    if let Some(theirs) = f.find(name) {
        report.relative(name, &channels_first(g, &ours.data)?, theirs, OUTPUT);
    }
    Ok(())
}

/// Compares the gradient of an input, a map, if the file has it.
pub(super) fn input_gradient(
    g: &Gpu, f: &Fixture, report: &mut FixtureReport, name: &str, input: &Var, grads: &Grads,
) -> Result<()> {
    let Some(theirs) = f.find(&format!("grad.{name}")) else { return Ok(()) };
    let ours = match grads.get(input) {
        Some(grad) => channels_first(g, grad)?,
        None => vec![0.0; theirs.values.len()],
    };
    let row = format!("grad.{name}");
    match f.is_zero(name) {
        true => report.zero(&row, &ours, &theirs.shape),
        false => report.relative(&row, &ours, theirs, GRADIENT),
    }
    Ok(())
}

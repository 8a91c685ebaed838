//! Kinds `vit_classify`, `mambar_classify`, `vim_classify`, `arm_classify` and `vmamba_classify`: logits, the losses
//! with and without label smoothing, and the gradients of the loss with it. Configuration keys are the constructor's
//! arguments: timm's for ViT, those of their repositories for the others.

use super::compare::FixtureReport;
use super::fixture::Fixture;
use super::model::{axis, directions, drop_path, gradients, loss, output, weights};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::{Classifier, Config, Decoder, Family, InitPositions, InitScheme, Order, Pool, Positions, TestView};
use crate::nn::{Directions, Params};
use crate::ops::cross_entropy::cross_entropy;
use crate::ops::{patchify, reduce};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// The ViT with timm's constructor arguments and defaults.
pub fn vit(f: &Fixture) -> Result<Config> {
    let pool = match f.config("global_pool").as_str().unwrap_or("token") {
        "token" => Pool::Token,
        "avg" => Pool::Average,
        other => return Err(f.error(format!("config `global_pool` is {other}, expected token or avg"))),
    };
    let common = common(f, 768)?;
    // the ratio follows from the weights, because timm rounds the MLP's width down
    let hidden = axis(f, "param.blocks.0.mlp.fc1.weight", 0);
    Ok(Config {
        family: Family::VIT,
        pattern: "T".repeat(f.size("depth", 12)?),
        heads: f.size("num_heads", 12)?,
        mlp_ratio: hidden.map_or(f.number("mlp_ratio", 4.0)?, |hidden| hidden as f64 / common.width.max(1) as f64),
        qkv_bias: f.flag("qkv_bias", true)?,
        norm_eps: Some(f.number("norm_eps", 1e-6)?),
        registers: f.flag("class_token", true)?.into(),
        pool,
        ..common
    })
}

/// The Mamba-R with its constructor arguments and defaults.
pub fn mambar(f: &Fixture) -> Result<Config> {
    let mixer = "param.layers.0.mixer";
    let inner = axis(f, &format!("{mixer}.A_log"), 0);
    let common = common(f, 192)?;
    Ok(Config {
        pattern: "M".repeat(f.size("depth", 24)?),
        registers: f.size("num_cls_tokens", 1)?,
        cls_reduce: f.size("cls_reduce", 1)?.max(1),
        norm_eps: Some(f.number("norm_epsilon", 1e-5)?),
        states: axis(f, &format!("{mixer}.A_log"), 1).unwrap_or(common.states),
        conv: axis(f, &format!("{mixer}.conv1d.weight"), 2).unwrap_or(common.conv),
        expand: inner.map_or(common.expand, |inner| inner / common.width.max(1)),
        rms_norm: f.flag("rms_norm", true)?,
        directions: directions(f.flag("if_divide_out", true)? && f.flag("if_devide_out", true)?),
        ..common
    })
}

/// The Vim with its class token in the middle of the sequence.
pub fn vim(f: &Fixture) -> Result<Config> {
    let order = match f.config("order").as_str().unwrap_or("rows") {
        "rows" => Order::Rows,
        "columns" => Order::Columns,
        other => return Err(f.error(format!("config `order` is {other}, expected rows or columns"))),
    };
    Ok(Config { family: Family::VIM, registers: 1, pool: Pool::Token, order, ..mambar(f)? })
}

/// The ARM as it is fine-tuned.
pub fn arm(f: &Fixture) -> Result<Config> {
    Ok(Config {
        family: Family::ARM,
        pattern: "M".repeat(f.size("depth", 12)?),
        pool: if f.flag("global_pool", true)? { Pool::Average } else { Pool::Token },
        mlp_ratio: Family::ARM.mlp_ratio,
        expand: 1,
        ..common(f, 768)?
    })
}

/// The fields that all models read alike, and defaults for the rest. `width` is the default of `embed_dim`.
pub(super) fn common(f: &Fixture, width: usize) -> Result<Config> {
    let (image_size, image_width) = match f.numbers("img_size").as_deref() {
        Some(&[height, width]) => (height as usize, Some(width as usize)),
        _ => (f.size("img_size", 224)?, None),
    };
    Ok(Config {
        name: "fixture".into(),
        image_size,
        image_width,
        patch_size: f.size("patch_size", 16)?,
        width: f.size("embed_dim", width)?,
        classes: f.size("num_classes", 1000)?,
        family: Family::HYBRID,
        pattern: String::new(),
        heads: 1,
        mlp_ratio: 4.0,
        qkv_bias: true,
        norm_eps: None,
        extra_residual: false,
        registers: 1,
        cls_reduce: 1,
        pool: Pool::Registers,
        states: 16,
        conv: 4,
        expand: 2,
        rms_norm: true,
        directions: Directions::Mean,
        order: Order::Rows,
        positions: Positions::Learned,
        init_positions: InitPositions::Normal,
        position_scale: 1.0,
        mask_token_std: 0.02,
        drop_path: 0.0,
        dropout: 0.0,
        test_view: TestView::default(),
        hierarchy: None,
        points: None,
        dense: None,
        init: InitScheme::default(),
        decoder: Decoder::map(),
    })
}

pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport, config: &Config) -> Result<()> {
    let images = f.get("input.images")?;
    let mut params = Params::new(g);
    let model = Classifier::new(g, &mut params, config)?;
    params.load(g, &weights(f))?;
    let images = Tensor::from_slice(g, &images.shape, &images.f32())?;
    let mut r = Recorder::new(g);
    let patches = Var::constant(patchify::from_nchw(&mut r, &images, config.input_patch())?);

    let b = images.shape().first().copied().unwrap_or(0);
    let drop_path = drop_path(g, f, b, config)?;
    let out = model.forward(&mut r, &patches, drop_path.as_ref())?;
    r.run()?;
    let pooled = f.find("output.features").is_some_and(|theirs| theirs.shape.len() == 2);
    output(g, f, report, "output.features", if pooled { &out.features } else { &out.sequence })?;
    output(g, f, report, "output.logits", &out.logits)?;

    let plain = smoothed_loss(&mut r, f, &out.logits, 0.0)?;
    let smooth = smoothed_loss(&mut r, f, &out.logits, f.number("label_smoothing", 0.0)?)?;
    let grads = r.backward(&smooth, params.grads())?;
    r.run()?;
    loss(g, f, report, "output.loss_plain", &plain)?;
    loss(g, f, report, "output.loss_smooth", &smooth)?;
    gradients(g, f, report, &params, &grads, |name| (name.to_string(), None))
}

/// The mean cross-entropy of scores (B, K) against the labels of the file, with label smoothing.
pub(super) fn smoothed_loss(r: &mut Recorder, f: &Fixture, logits: &Var, smoothing: f64) -> Result<Var> {
    let [b, k] = logits.data.dims("logits")?;
    let labels: Vec<usize> = f.get("input.labels")?.values.iter().map(|&label| label as usize).collect();
    if labels.len() != b || labels.iter().any(|&label| label >= k) {
        return Err(f.error(format!("input.labels are {labels:?}, expected {b} below {k}")));
    }
    let targets = soft(r.gpu(), &labels, k, smoothing)?;
    let rows = cross_entropy(r, logits, &targets)?;
    reduce::sum(r, &rows)
}

/// Targets (B, K) with label smoothing ε: 1 − ε + ε/K for the label, ε/K for the other classes.
fn soft(g: &Gpu, labels: &[usize], k: usize, smoothing: f64) -> Result<Tensor> {
    let off = smoothing / k as f64;
    let row = |label: usize| (0..k).map(move |c| (off + if c == label { 1.0 - smoothing } else { 0.0 }) as f32);
    let targets: Vec<f32> = labels.iter().flat_map(|&label| row(label)).collect();
    Tensor::from_slice(g, &[labels.len(), k], &targets)
}

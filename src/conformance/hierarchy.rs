//! Kinds `resnet_classify` and its like: classifiers with batch norms. A pass in training (statistics of the batch,
//! DropPath, loss, every gradient, the running statistics behind it), and one in evaluation on the running statistics
//! before.

use super::classify::{common, smoothed_loss};
use super::compare::{FixtureReport, OUTPUT};
use super::fixture::Fixture;
use super::map_pretrain::batch;
use super::model::{axis, drop_path, gradients, loss, output, weights};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::{Classifier, Config, Decoder, Family, Hierarchy, MapOnMaps, Objective, PixelPretext, Pool, Stage};
use crate::nn::Params;
use crate::ops::patchify;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// The ResNet of the file.
pub fn resnet(f: &Fixture) -> Result<Config> {
    let widths: Vec<usize> = sizes(f, "channels")?.into_iter().map(|c| 4 * c).collect();
    let net = Hierarchy {
        stem: f.size("stem_width", 64)?,
        stages: Stage::list(&sizes(f, "layers")?, &widths),
        output_stride: f.size("output_stride", 32)?,
        ..batch_norms(f)?
    };
    on_maps(f, Family::RESNET, widths.last().copied().unwrap_or(0), net)
}

/// The EfficientNet of the file.
pub fn efficientnet(f: &Fixture) -> Result<Config> {
    let wrong = || f.error("config `stages` are no [kind, repeats, kernel, stride, expansion, channels, se]");
    let stage = |row: &serde_json::Value| {
        let size = |i: usize| row.get(i)?.as_u64().filter(|size| *size < 65536).map(|size| size as usize);
        Some(Stage {
            depth: size(1)?,
            kernel: size(2)?,
            stride: size(3)?,
            expansion: size(4)?,
            width: size(5)?,
            ..Stage::default()
        })
    };
    let rows = f.config("stages").as_array().ok_or_else(wrong)?;
    let net = Hierarchy {
        stem: f.size("stem_size", 32)?,
        stages: rows.iter().map(stage).collect::<Option<_>>().ok_or_else(wrong)?,
        same_padding: f.config("pad").as_str() == Some("same"),
        ..batch_norms(f)?
    };
    let config = on_maps(f, Family::EFFICIENTNET, f.size("num_features", 1280)?, net)?;
    Ok(Config { dropout: f.number("dropout", 0.0)?, ..config })
}

/// The ConvNeXt of the file.
pub fn convnext(f: &Fixture) -> Result<Config> {
    let widths = sizes(f, "dims")?;
    let stages = Stage::list(&sizes(f, "depths")?, &widths);
    let net = Hierarchy { stages, layer_scale: Some(1e-6), ..Hierarchy::default() };
    on_maps(f, Family::CONVNEXT, widths.last().copied().unwrap_or(0), net)
}

/// The MambaVision of the file.
pub fn mambavision(f: &Fixture) -> Result<Config> {
    let (dim, windows, heads) = (f.size("dim", 80)?, sizes(f, "window_size")?, sizes(f, "num_heads")?);
    let mut stages = Stage::list(&sizes(f, "depths")?, &[dim, 2 * dim, 4 * dim, 8 * dim]);
    for ((stage, window), heads) in stages.iter_mut().zip(windows).zip(heads) {
        (stage.window, stage.heads) = (window, heads);
    }
    let gamma = |key: &str| f.config(key).as_f64();
    let net = Hierarchy {
        stem: f.size("in_dim", 64)?,
        stages,
        layer_scale: gamma("layer_scale"),
        layer_scale_conv: gamma("layer_scale_conv"),
        ..batch_norms(f)?
    };
    let config = on_maps(f, Family::MAMBAVISION, 8 * dim, net)?;
    Ok(Config { states: 8, conv: 3, ..config })
}

/// The MAP pretraining of the MambaVision of the file.
fn masked(f: &Fixture) -> Result<Config> {
    let config = mambavision(f)?;
    let (width, default) = (f.size("decoder_embed_dim", 192)?, Decoder::map());
    let hidden = axis(f, "param.decoder_blocks.0.mlp.fc1.weight", 0).unwrap_or(width * 4);
    let decoder = Decoder {
        width,
        depth: f.size("decoder_depth", default.depth)?,
        heads: f.size("decoder_num_heads", default.heads)?,
        mlp_ratio: hidden as f64 / width.max(1) as f64,
        ..default
    };
    Ok(Config { classes: 0, decoder, ..config })
}

/// Kind `map_hier_pretrain`: a step of MAP on a backbone on maps.
pub fn check_map(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let config = masked(f)?;
    config.validate()?;
    let mut params = Params::new(g);
    let model = MapOnMaps::with(g, &mut params, &config, &Objective::default())?;
    params.load(g, &weights(f))?;
    let images = f.get("input.images")?;
    let images = Tensor::from_slice(g, &images.shape, &images.f32())?;
    let mut r = Recorder::new(g);
    let batch = batch(&mut r, f, &images, &f.get("input.mask")?.f32(), config.patch_size)?;
    let drop_path = drop_path(g, f, images.shape()[0], &config)?;
    let out = model.reconstruct(&mut r, &batch, drop_path.as_ref())?;
    let grads = r.backward(&out.loss, params.grads())?;
    r.run()?;
    output(g, f, report, "output.encoder", &out.encoder)?;
    output(g, f, report, "output.pred", &out.pred)?;
    loss(g, f, report, "output.loss", &out.loss)?;
    buffers(g, f, report, &params)?;
    gradients(g, f, report, &params, &grads, |name| (name.to_string(), None))
}

/// The VMamba of the file. `dims` are the widths of the stages, or that of the first, which the others double.
pub fn vmamba(f: &Fixture) -> Result<Config> {
    let depths = sizes(f, "depths")?;
    let widths = match f.size("dims", 96) {
        Ok(first) => (0..depths.len().min(16)).map(|stage| first << stage).collect(),
        Err(_) => sizes(f, "dims")?,
    };
    let stages = Stage::list(&depths, &widths);
    let net = Hierarchy { stages, ssm_ratio: f.number("ssm_ratio", 2.0)?, ..Hierarchy::default() };
    let config = on_maps(f, Family::VMAMBA, widths.last().copied().unwrap_or(0), net)?;
    Ok(Config { states: f.size("ssm_d_state", 1)?, mlp_ratio: f.number("mlp_ratio", 4.0)?, ..config })
}

/// A network on maps whose head reads `width` features.
pub(super) fn on_maps(f: &Fixture, family: Family, width: usize, hierarchy: Hierarchy) -> Result<Config> {
    let common = common(f, width)?;
    let mlp_ratio = f.number("mlp_ratio", 4.0)?;
    Ok(Config { family, width, mlp_ratio, registers: 0, pool: Pool::Average, hierarchy: Some(hierarchy), ..common })
}

/// Stages to be filled in, with the batch norms of the file.
pub(super) fn batch_norms(f: &Fixture) -> Result<Hierarchy> {
    let (eps, momentum) = (f.number("bn_eps", 1e-5)?, f.number("bn_momentum", 0.1)?);
    Ok(Hierarchy { batch_norm_eps: eps, batch_norm_momentum: momentum, ..Hierarchy::default() })
}

/// A list of whole numbers of the configuration.
pub(super) fn sizes(f: &Fixture, key: &str) -> Result<Vec<usize>> {
    let numbers = f.numbers(key).ok_or_else(|| f.error(format!("config `{key}` is no list of numbers")))?;
    let whole = numbers.iter().all(|n| (0.0..65536.0).contains(n) && n.fract() == 0.0);
    match whole {
        true => Ok(numbers.into_iter().map(|n| n as usize).collect()),
        false => Err(f.error(format!("config `{key}` is {numbers:?}, expected whole numbers below 65536"))),
    }
}

pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport, config: &Config) -> Result<()> {
    let images = f.get("input.images")?;
    let mut params = Params::new(g);
    let model = Classifier::new(g, &mut params, config)?;
    params.load(g, &weights(f))?;
    let batch = images.shape.first().copied().unwrap_or(0);
    let images = Tensor::from_slice(g, &images.shape, &images.f32())?;

    let mut r = Recorder::inference(g);
    let patches = Var::constant(patchify::from_nchw(&mut r, &images, config.input_patch())?);
    let out = model.forward(&mut r, &patches, None)?;
    r.run()?;
    output(g, f, report, "output.eval_features", &out.features)?;
    output(g, f, report, "output.eval_logits", &out.logits)?;

    let mut r = Recorder::new(g);
    let patches = Var::constant(patchify::from_nchw(&mut r, &images, config.input_patch())?);
    let drop_path = drop_path(g, f, batch, config)?;
    let out = model.forward(&mut r, &patches, drop_path.as_ref())?;
    let smooth = smoothed_loss(&mut r, f, &out.logits, f.number("label_smoothing", 0.0)?)?;
    let grads = r.backward(&smooth, params.grads())?;
    r.run()?;
    output(g, f, report, "output.train_features", &out.features)?;
    output(g, f, report, "output.train_logits", &out.logits)?;
    loss(g, f, report, "output.train_loss", &smooth)?;
    buffers(g, f, report, &params)?;
    gradients(g, f, report, &params, &grads, |name| (name.to_string(), None))
}

/// Compares the running statistics behind a pass in training.
pub(super) fn buffers(g: &Gpu, f: &Fixture, report: &mut FixtureReport, params: &Params) -> Result<()> {
    let now = pollster::block_on(params.weights(g))?;
    for (name, theirs) in f.with_prefix("buffer_after.") {
        let ours = now.get(name).map_or(&[][..], |(_, values)| values);
        report.relative(&format!("buffer_after.{name}"), ours, theirs, OUTPUT);
    }
    Ok(())
}

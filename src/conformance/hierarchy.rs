//! Kinds `resnet_classify` and its like: classifiers with batch norms. A pass in training (statistics of the batch,
//! DropPath, loss, every gradient, the running statistics behind it), and one in evaluation on the running statistics
//! before.

use super::classify::{common, smoothed_loss};
use super::compare::{FixtureReport, OUTPUT};
use super::fixture::Fixture;
use super::model::{drop_path, gradients, loss, output, weights};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::{Classifier, Config, Family, Hierarchy, Pool, Stage};
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
        ..batch_norms(f)?
    };
    on_maps(f, Family::RESNET, widths.last().copied().unwrap_or(0), net)
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
    Ok(Config { family, width, registers: 0, pool: Pool::Average, hierarchy: Some(hierarchy), ..common })
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

//! Kind `arm_pretrain`: ARM's pretraining, with weights and gradients, or of true size without weights.

use super::compare::{FixtureReport, OUTPUT};
use super::fill::{DEEP, Fill, is_filled};
use super::fixture::Fixture;
use super::model::{gradients, loss, output, weights};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::{ArmPretraining, Config, Decoder, MaskedBatch, Method, Objective, PixelPretext};
use crate::nn::Params;
use crate::ops::patchify;
use crate::ops::reduce::mean_tokens;
use crate::tape::Recorder;
use crate::tensor::Tensor;

/// The model of the file, and the blocks behind which its encoder is tapped.
fn config(f: &Fixture) -> Result<(Config, Vec<usize>)> {
    let taps = super::hierarchy::sizes(f, "taps")?;
    if f.size("cluster", 4)? != 4 {
        return Err(f.error(format!("config `cluster` is {}, expected 4", f.config("cluster"))));
    }
    let decoder = Decoder {
        width: f.size("dec_embed_dim", 512)?,
        depth: taps.len(),
        heads: f.size("dec_heads", 8)?,
        ..Decoder::arm()
    };
    Ok((Config { classes: 0, decoder, ..super::classify::arm(f)? }, taps))
}

pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let (config, taps) = config(f)?;
    let objective = Objective::of(Method::ARM);
    objective.check(&config)?;
    config.validate()?;
    let mut params = Params::new(g);
    let model = ArmPretraining::tapped_at(g, &mut params, &config, &objective, &taps)?;
    let filled = is_filled(f).then(|| Fill::of(f)).transpose()?;
    let images = match &filled {
        Some(fill) => {
            params.load(g, &fill.weights(f, report, &params)?)?;
            fill.images(f, g, &config)?
        }
        None => {
            params.load(g, &weights(f))?;
            let images = f.get("input.images")?;
            Tensor::from_slice(g, &images.shape, &images.f32())?
        }
    };

    let mut r = if filled.is_some() { Recorder::inference(g) } else { Recorder::new(g) };
    let patches = patchify::from_nchw(&mut r, &images, config.patch_size)?;
    let [b, l, _] = patches.dims("patches")?;
    // the method has tables of its own
    let all: Vec<u32> = (0..b).flat_map(|_| 0..l as u32).collect();
    let table = Tensor::from_indices(g, &[b, l], &all)?;
    let batch = MaskedBatch {
        patches,
        visible: table.clone(),
        inverse: table,
        mask: Tensor::from_slice(g, &[b, l], &vec![1.0; b * l])?,
        scale: 1.0 / (b * l) as f32,
        counted: None,
        second: None,
    };
    let latent = model.encode(&mut r, &batch, None)?;
    let (pred, total) = model.predicted(&mut r, &latent, &batch)?;
    if filled.is_some() {
        let means = [("latent", &latent), ("pred", &pred)];
        let means = means.map(|(name, x)| Ok((format!("output.{name}.mean"), mean_tokens(&mut r, x)?)));
        let means = means.into_iter().collect::<Result<Vec<_>>>()?;
        r.run()?;
        for (name, ours) in means {
            report.relative(&name, &ours.data.to_vec(g)?, f.get(&name)?, DEEP);
        }
        let ([_, v, c], values) = (pred.data.dims("predictions")?, pred.data.to_vec(g)?);
        let last: Vec<f32> = values.chunks(v * c).flat_map(|image| &image[(v - 1) * c..]).copied().collect();
        report.relative("output.pred.last", &last, f.get("output.pred.last")?, DEEP);
        report.relative("output.loss", &total.data.to_vec(g)?, f.get("output.loss")?, DEEP);
        return Ok(());
    }
    let grads = r.backward(&total, params.grads())?;
    r.run()?;
    report.relative("act.latent", &latent.data.to_vec(g)?, f.get("act.latent")?, OUTPUT);
    output(g, f, report, "output.pred", &pred)?;
    loss(g, f, report, "output.loss", &total)?;
    gradients(g, f, report, &params, &grads, |name| (name.to_string(), None))
}

//! Kinds of point clouds that are computed on the GPU.

use super::classify::smoothed_loss;
use super::compare::{FixtureReport, GRADIENT, OUTPUT};
use super::fixture::{Array, Fixture};
use super::hierarchy::{buffers, sizes};
use super::model::{gradients, loss, output, weights};
use crate::data::points::{PointPatches, nearest_points};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::{
    Classifier, Config, MaskedBatch, Method, Objective, PointEncoder, PointHead, PointLoss, PointMixers,
    PointPretraining, Points, Purpose,
};
use crate::nn::{Params, Weights};
use crate::ops::chamfer::{ChamferForm, chamfer as distance};
use crate::ops::reduce::sum;
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

pub fn chamfer(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let leaf = |name: &str| {
        let array = f.get(name)?;
        Tensor::from_slice(g, &array.shape, &array.f32()).map(Var::leaf)
    };
    for (name, form) in [("cdl1", ChamferForm::L1), ("cdl2", ChamferForm::L2)] {
        let (a, b) = (leaf("input.a")?, leaf("input.b")?);
        let mut r = Recorder::new(g);
        let shares = distance(&mut r, &a, &b, form)?;
        let loss = sum(&mut r, &shares)?;
        let grads = r.backward(&loss, Grads::default())?;
        r.run()?;
        report.relative(&format!("output.{name}"), &loss.data.to_vec(g)?, f.get(&format!("output.{name}"))?, OUTPUT);
        for (var, input) in [(&a, "input.a"), (&b, "input.b")] {
            let name = format!("grad.{name}.{input}");
            let ours = grads.get(var).map(|grad| grad.to_vec(g)).transpose()?.unwrap_or_default();
            report.relative(&name, &ours, f.get(&name)?, GRADIENT);
        }
    }
    Ok(())
}

/// The network of the file.
fn config(f: &Fixture, mixers: PointMixers) -> Result<Config> {
    let (d, base) = (Points::default(), Config::preset("mamba3d_base")?);
    let hidden = sizes(f, "encoder_hidden")?;
    let points = Points {
        mixers,
        depth: f.size("depth", d.depth)?,
        count: f.get("input.points")?.shape.get(1).copied().unwrap_or(0),
        groups: f.size("num_group", d.groups)?,
        group_size: f.size("group_size", d.group_size)?,
        neighbors: f.size("center_local_k", d.neighbors)?,
        channel_reversed: f.config("bimamba_type").as_str().is_none_or(|kind| kind == "v4"),
        encoder_hidden: hidden.try_into().map_err(|_| f.error("config `encoder_hidden` are not three widths"))?,
        pos_hidden: f.size("pos_hidden", d.pos_hidden)?,
        head_hidden: f.size("head_hidden", d.head_hidden)?,
        mean_pool_bug: f.flag("mean_pool_bug", false)?,
        loss: if f.config("loss").as_str() == Some("cdl1") { PointLoss::Cdl1 } else { PointLoss::Cdl2 },
    };
    let mut decoder = base.decoder.clone();
    decoder.depth = f.size("decoder_depth", decoder.depth)?;
    let config = Config {
        width: f.size("trans_dim", base.width)?,
        heads: f.size("num_heads", base.heads)?,
        classes: f.size("cls_dim", base.classes)?,
        dropout: f.number("dropout", 0.0)?,
        drop_path: f.number("drop_path_rate", 0.0)?,
        points: Some(points),
        decoder,
        ..base
    };
    config.validate()?;
    Ok(config)
}

/// Mamba3D or the HybridNet of the file.
fn hybrid(f: &Fixture) -> Result<Config> {
    let mixers = match f.config("hybrid").as_str() {
        None | Some("none") => PointMixers::Mamba,
        Some("full") => PointMixers::Hybrid,
        Some("attn_only") => PointMixers::HybridAttention,
        Some(other) => return Err(f.error(format!("config `hybrid` is {other}, expected none, full or attn_only"))),
    };
    config(f, mixers)
}

/// The parameters of the file that the model has: a second direction that is not used is not built.
fn known(f: &Fixture, points: &Points) -> Weights {
    let mut weights = weights(f);
    if !points.channel_reversed {
        weights.retain(|name, _| !["A_b_log", "D_b"].iter().any(|end| name.ends_with(end)) && !name.contains("_b."));
    }
    weights
}

/// The clouds of the file as patches (B, G, 3K + 3). Compares what they are made of. `mask` (B, G) says which patches
/// are hidden.
fn clouds(g: &Gpu, f: &Fixture, report: &mut FixtureReport, points: &Points, mask: Option<&Array>) -> Result<Tensor> {
    let array = f.get("input.points")?;
    let values = array.f32();
    let b = array.shape.first().copied().unwrap_or(0).max(1);
    let (groups, size) = (points.groups, points.group_size);
    let (mut patches, mut center_index, mut members, mut near) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (i, cloud) in values.as_chunks::<3>().0.chunks(values.len() / 3 / b).enumerate() {
        let cloud = PointPatches::new(cloud, groups, size)?;
        let seen = |at: &usize| mask.is_none_or(|mask| mask.values[i * groups + at] == 0.0);
        let seen: Vec<[f32; 3]> = (0..groups).filter(seen).map(|at| cloud.centers[at]).collect();
        near.extend(nearest_points(&seen, &seen, points.neighbors));
        patches.extend(cloud.packed());
        center_index.extend(cloud.center_index);
        members.extend(cloud.members);
    }
    let whole = |numbers: &[u32]| numbers.iter().map(|v| *v as f32).collect::<Vec<f32>>();
    report.exact("output.center_index", &whole(&center_index), f.get("output.center_index")?);
    report.exact("output.knn_index", &whole(&members), f.get("output.knn_index")?);
    if points.pools_locally() {
        report.exact("output.lnp_index", &whole(&near), f.get("output.lnp_index")?);
    }
    Tensor::from_slice(g, &[b, groups, points.patch_len()], &patches)
}

/// Factors of DropPath, all 1, and behind them those of the dropout of both hidden layers.
fn factors(g: &Gpu, f: &Fixture, b: usize, config: &Config) -> Result<Option<Tensor>> {
    let (Some(first), Some(second)) = (f.find("input.dropout.3.keep"), f.find("input.dropout.7.keep")) else {
        return Ok(None);
    };
    let (stride, rows) = (b.next_multiple_of(64), config.drop_path_rates().len());
    let mut values = vec![1.0f32; rows * stride];
    let places = config.drop_path_places().len() * stride;
    for (i, keeps) in [first, second].into_iter().enumerate() {
        let at = places + PointHead::factors_at(i, first.values.len());
        for (slot, keep) in values[at..].iter_mut().zip(&keeps.values) {
            *slot = (keep / (1.0 - config.dropout)) as f32;
        }
    }
    Tensor::from_slice(g, &[rows, stride], &values).map(Some)
}

/// Compares the tokens of the patches, without positions, and what leaves the first layer, if the file has them. The
/// statistics are those of the batch.
fn parts(
    g: &Gpu, f: &Fixture, report: &mut FixtureReport, encoder: &PointEncoder, patches: &Tensor, class_token: bool,
) -> Result<()> {
    let mut r = Recorder::new(g);
    let (points, centers) = encoder.split(&mut r, &Var::constant(patches.clone()))?;
    let tokens = encoder.patch_tokens(&mut r, &points)?;
    let first = encoder.layers(&mut r, &tokens, &centers, class_token, None, 1)?;
    r.run()?;
    output(g, f, report, "act.tokens", &tokens)?;
    if class_token { output(g, f, report, "act.block0", &first) } else { Ok(()) }
}

/// Kind `mamba3d_classify`.
pub fn classify(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let config = hybrid(f)?;
    let points = config.points()?;
    let mut params = Params::new(g);
    let model = Classifier::new(g, &mut params, &config)?;
    params.load(g, &known(f, points))?;
    let clouds = clouds(g, f, report, points, None)?;
    let patches = Var::constant(clouds.clone());

    let mut r = Recorder::inference(g);
    let out = model.forward(&mut r, &patches, None)?;
    r.run()?;
    output(g, f, report, "output.eval_logits", &out.logits)?;

    let mut r = Recorder::new(g);
    let factors = factors(g, f, clouds.shape()[0], &config)?;
    let out = model.forward(&mut r, &patches, factors.as_ref())?;
    let smooth = smoothed_loss(&mut r, f, &out.logits, f.number("label_smooth", 0.0)?)?;
    let grads = r.backward(&smooth, params.grads())?;
    r.run()?;
    output(g, f, report, "output.features", &out.features)?;
    output(g, f, report, "output.train_logits", &out.logits)?;
    loss(g, f, report, "output.train_loss", &smooth)?;
    buffers(g, f, report, &params)?;
    gradients(g, f, report, &params, &grads, |name| (name.to_string(), None))?;

    let mut params = Params::new(g);
    let encoder = PointEncoder::new(&mut params, &config, Purpose::Classification)?;
    let mut weights = known(f, points);
    weights.retain(|name, _| !name.starts_with(config.family.head));
    params.load(g, &weights)?;
    parts(g, f, report, &encoder, &clouds, true)
}

/// Kinds `map3d_pretrain` and `pointmae_pretrain`.
pub fn pretrain(g: &Gpu, f: &Fixture, report: &mut FixtureReport, method: Method) -> Result<()> {
    let config = if method == Method::MAP { hybrid(f)? } else { config(f, PointMixers::Transformer)? };
    let (points, mask) = (config.points()?, f.get("input.mask")?);
    let mut params = Params::new(g);
    let model = PointPretraining::new(g, &mut params, &config, &Objective::of(method))?;
    params.load(g, &known(f, points))?;
    let patches = clouds(g, f, report, points, Some(mask))?;
    let batch = batch(g, patches.clone(), mask, points.groups)?;
    let mut r = Recorder::new(g);
    let out = model.reconstruct(&mut r, &batch, None)?;
    let grads = r.backward(&out.loss, params.grads())?;
    r.run()?;
    output(g, f, report, "output.encoder", &out.encoder)?;
    output(g, f, report, "output.rebuilt", &out.rebuilt)?;
    output(g, f, report, "output.target", &Var::constant(out.target))?;
    loss(g, f, report, "output.loss", &out.loss)?;
    buffers(g, f, report, &params)?;
    gradients(g, f, report, &params, &grads, |name| (name.to_string(), None))?;
    parts(g, f, report, model.points(), &patches, false)
}

/// The tables of a mask (B, G).
fn batch(g: &Gpu, patches: Tensor, mask: &Array, groups: usize) -> Result<MaskedBatch> {
    let b = mask.values.len() / groups;
    let table = |hidden: f64| {
        let (mut ids, mut places) = (Vec::new(), vec![u32::MAX; b * groups]);
        for (row, places) in mask.values.chunks(groups).zip(places.chunks_mut(groups)) {
            for (place, token) in (0..groups).filter(|token| row[*token] == hidden).enumerate() {
                places[token] = place as u32;
                ids.push(token as u32);
            }
        }
        Ok::<_, crate::Error>((
            Tensor::from_indices(g, &[b, ids.len() / b], &ids)?,
            Tensor::from_indices(g, &[b, groups], &places)?,
        ))
    };
    let ((visible, inverse), counted) = (table(0.0)?, table(1.0)?);
    let count = mask.values.iter().sum::<f64>();
    Ok(MaskedBatch {
        patches,
        visible,
        inverse,
        mask: Tensor::from_slice(g, &[b, groups], &mask.f32())?,
        scale: (1.0 / count.max(1.0)) as f32,
        counted: Some(counted),
        second: None,
    })
}

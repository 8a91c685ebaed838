//! Kinds of point clouds that are computed on the GPU.

use super::classify::smoothed_loss;
use super::compare::{FixtureReport, GRADIENT, OUTPUT};
use super::fixture::{Array, Fixture};
use super::hierarchy::{buffers, sizes};
use super::model::{gradients, loss, output, weights};
use crate::data::points::PointPatches;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::points::{PointBatch, PointClassifier, PointConfig, PointLoss, PointMixers, PointPretraining};
use crate::nn::{Params, Weights};
use crate::ops::chamfer::{ChamferForm, chamfer as distance};
use crate::ops::local_norm_pool::Neighbors;
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
fn config(f: &Fixture, mixers: PointMixers) -> Result<PointConfig> {
    let d = PointConfig::default();
    let hidden = sizes(f, "encoder_hidden")?;
    Ok(PointConfig {
        mixers,
        width: f.size("trans_dim", d.width)?,
        depth: f.size("depth", d.depth)?,
        heads: f.size("num_heads", d.heads)?,
        groups: f.size("num_group", d.groups)?,
        group_size: f.size("group_size", d.group_size)?,
        neighbors: f.size("center_local_k", d.neighbors)?,
        channel_reversed: f.config("bimamba_type").as_str().is_none_or(|kind| kind == "v4"),
        encoder_hidden: hidden.try_into().map_err(|_| f.error("config `encoder_hidden` are not three widths"))?,
        pos_hidden: f.size("pos_hidden", d.pos_hidden)?,
        head_hidden: f.size("head_hidden", d.head_hidden)?,
        classes: f.size("cls_dim", d.classes)?,
        dropout: f.number("dropout", d.dropout)?,
        drop_path: f.number("drop_path_rate", 0.0)?,
        mean_pool_bug: f.flag("mean_pool_bug", false)?,
        decoder_depth: f.size("decoder_depth", d.decoder_depth)?,
        loss: if f.config("loss").as_str() == Some("cdl1") { PointLoss::Cdl1 } else { PointLoss::Cdl2 },
    })
}

/// Mamba3D or the HybridNet of the file.
fn hybrid(f: &Fixture) -> Result<PointConfig> {
    let mixers = match f.config("hybrid").as_str() {
        None | Some("none") => PointMixers::Mamba,
        Some("full") => PointMixers::Hybrid,
        Some("attn_only") => PointMixers::HybridAttention,
        Some(other) => return Err(f.error(format!("config `hybrid` is {other}, expected none, full or attn_only"))),
    };
    config(f, mixers)
}

/// The parameters of the file that the model has: a second direction that is not used is not built.
fn known(f: &Fixture, config: &PointConfig) -> Weights {
    let mut weights = weights(f);
    if !config.channel_reversed {
        weights.retain(|name, _| !["A_b_log", "D_b"].iter().any(|end| name.ends_with(end)) && !name.contains("_b."));
    }
    weights
}

/// Clouds as a batch, and the order of the patches of each.
struct Clouds {
    batch: PointBatch,
    /// (B, G): the place in the file of each of our patches.
    order: Vec<usize>,
}

/// The clouds of the file. With `mask` (B, G) the patches that are not hidden come first.
fn clouds(
    g: &Gpu, f: &Fixture, report: &mut FixtureReport, config: &PointConfig, mask: Option<&Array>,
) -> Result<Clouds> {
    let array = f.get("input.points")?;
    let values = array.f32();
    let points = values.as_chunks::<3>().0;
    let b = array.shape.first().copied().unwrap_or(0).max(1);
    let (groups, size) = (config.groups, config.group_size);
    let (mut patches, mut centers, mut graph, mut order) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut center_index, mut members, mut near) = (Vec::new(), Vec::new(), Vec::new());
    for (i, cloud) in points.chunks(points.len() / b).enumerate() {
        let cloud = PointPatches::new(cloud, groups, size)?;
        let hidden = |at: &usize| mask.is_some_and(|mask| mask.values[i * groups + at] == 1.0);
        let mut places: Vec<usize> = (0..groups).collect();
        places.sort_by_key(hidden); // stable
        let seen: Vec<[f32; 3]> = places.iter().filter(|at| !hidden(at)).map(|at| cloud.centers[*at]).collect();
        for at in &places {
            patches.extend_from_slice(&cloud.patches[at * size..(at + 1) * size]);
            centers.push(cloud.centers[*at]);
        }
        if config.pools_locally() {
            let index = PointPatches::neighbors(&seen, config.neighbors);
            graph.push(Neighbors::table(&index, config.neighbors)?);
            near.extend(index);
        }
        center_index.extend(cloud.center_index);
        members.extend(cloud.members);
        order.extend(places);
    }
    let whole = |numbers: &[u32]| numbers.iter().map(|v| *v as f32).collect::<Vec<f32>>();
    report.exact("output.center_index", &whole(&center_index), f.get("output.center_index")?);
    report.exact("output.knn_index", &whole(&members), f.get("output.knn_index")?);
    let mut neighbors = None;
    if let Some(first) = graph.first() {
        report.exact("output.lnp_index", &whole(&near), f.get("output.lnp_index")?);
        let graph = Tensor::from_indices(g, &[b, first.len()], &graph.concat())?;
        neighbors = Some(Neighbors { graph, k: config.neighbors });
    }
    let batch = PointBatch {
        patches: Tensor::from_slice(g, &[b, groups, size, 3], patches.as_flattened())?,
        centers: Tensor::from_slice(g, &[b, groups, 3], centers.as_flattened())?,
        neighbors,
    };
    Ok(Clouds { batch, order })
}

impl Clouds {
    /// Compares tokens (B, G, D) in our order with those of the file.
    fn tokens(&self, g: &Gpu, f: &Fixture, report: &mut FixtureReport, tokens: &Var) -> Result<()> {
        let [_, groups, width] = tokens.data.dims("tokens")?;
        let ours = tokens.data.to_vec(g)?;
        let mut turned = vec![0.0; ours.len()];
        for (i, (row, place)) in ours.chunks(width).zip(&self.order).enumerate() {
            turned[(i / groups * groups + place) * width..][..width].copy_from_slice(row);
        }
        if let Some(theirs) = f.find("act.tokens") {
            report.relative("act.tokens", &turned, theirs, OUTPUT);
        }
        Ok(())
    }
}

/// Kind `mamba3d_classify`.
pub fn classify(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let config = hybrid(f)?;
    let mut params = Params::new(g);
    let model = PointClassifier::new(&mut params, &config)?;
    params.load(g, &known(f, &config))?;
    let clouds = clouds(g, f, report, &config, None)?;
    let batch = &clouds.batch;

    let mut r = Recorder::inference(g);
    let out = model.forward(&mut r, batch, None, None)?;
    r.run()?;
    output(g, f, report, "output.eval_logits", &out.logits)?;

    let mut r = Recorder::new(g);
    let factors = |name: &str| {
        let Some(keep) = f.find(name) else { return Ok(None) };
        let values: Vec<f32> = keep.values.iter().map(|keep| (keep / (1.0 - config.dropout)) as f32).collect();
        Tensor::from_slice(g, &keep.shape, &values).map(Some)
    };
    let dropout = factors("input.dropout.3.keep")?.zip(factors("input.dropout.7.keep")?);
    let dropout = dropout.as_ref().map(|(first, second)| [first, second]);
    let out = model.forward(&mut r, batch, None, dropout)?;
    let smooth = smoothed_loss(&mut r, f, &out.logits, f.number("label_smooth", 0.0)?)?;
    let grads = r.backward(&smooth, params.grads())?;
    r.run()?;
    output(g, f, report, "output.features", &out.features)?;
    output(g, f, report, "output.train_logits", &out.logits)?;
    loss(g, f, report, "output.train_loss", &smooth)?;
    buffers(g, f, report, &params)?;
    gradients(g, f, report, &params, &grads, |name| (name.to_string(), None))?;

    // what leaves the first parts, with the statistics of a batch; the running ones are behind us
    let mut r = Recorder::new(g);
    let tokens = model.encoder().tokens(&mut r, &batch.patches)?;
    let neighbors = batch.neighbors.as_ref();
    let first = model.encoder().layers(&mut r, &tokens, &batch.centers, neighbors, true, None, 1)?;
    r.run()?;
    clouds.tokens(g, f, report, &tokens)?;
    output(g, f, report, "act.block0", &first)
}

/// Kinds `map3d_pretrain` and `pointmae_pretrain`.
pub fn pretrain(g: &Gpu, f: &Fixture, report: &mut FixtureReport, rows: bool) -> Result<()> {
    let config = if rows { hybrid(f)? } else { config(f, PointMixers::Transformer)? };
    let mut params = Params::new(g);
    let model = PointPretraining::new(g, &mut params, &config, rows)?;
    params.load(g, &known(f, &config))?;
    let clouds = clouds(g, f, report, &config, Some(f.get("input.mask")?))?;
    let visible = config.groups.saturating_sub(f.size("masked", config.groups / 2)?);
    let mut r = Recorder::new(g);
    let out = model.reconstruct(&mut r, &clouds.batch, visible, None)?;
    let grads = r.backward(&out.loss, params.grads())?;
    r.run()?;
    output(g, f, report, "output.encoder", &out.encoder)?;
    output(g, f, report, "output.rebuilt", &out.rebuilt)?;
    loss(g, f, report, "output.loss", &out.loss)?;
    buffers(g, f, report, &params)?;
    gradients(g, f, report, &params, &grads, |name| (name.to_string(), None))?;
    let mut r = Recorder::new(g);
    let tokens = model.encoder().tokens(&mut r, &clouds.batch.patches)?;
    r.run()?;
    clouds.tokens(g, f, report, &tokens)
}

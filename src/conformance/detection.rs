//! Kinds `simple_feature_pyramid`, `rpn`, `cascade_heads` and `mask_head`: the parts of Cascade Mask R-CNN on given
//! features. Boxes lie in a fixed number of rows, of which some are not valid, as in a recorded step; what the file has
//! is compared with the valid ones.

use super::compare::{FixtureReport, OUTPUT};
use super::fixture::{Array, Fixture};
use super::maps::{channels_first, channels_last};
use super::model::{count, gradients, loss, weights};
use super::segmentation::{input_gradient, map};
use crate::data::masks::{bitmap_target, polygon_target};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::infer::paste::{on_picture, pasted};
use crate::models::dense::boxes::{
    Anchors, BoxSampler, Candidates, Matcher, ProposalOptions, Region, detections, encode, proposals,
};
use crate::models::dense::nms::Corners;
use crate::models::dense::{
    BoxRows, CascadeConfig, CascadeHeads, FeaturePyramid, LevelProposals, MaskHead, MaskHeadConfig, RegionProposals,
    RegionTargets, SimpleFeaturePyramid,
};
use crate::nn::Params;
use crate::ops::roi_align::RoiAlignOptions;
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

/// `input.features.0`, `.1`, …, with the channels last.
fn features(g: &Gpu, f: &Fixture) -> Result<Vec<Var>> {
    let all = (0..).map_while(|i| f.find(&format!("input.features.{i}")));
    let leaf = |array: &Array| {
        let (shape, values) = channels_last(array);
        Tensor::from_slice(g, &shape, &values).map(Var::leaf)
    };
    all.map(leaf).collect()
}

/// A list of numbers of the configuration.
fn numbers(f: &Fixture, key: &str) -> Result<Vec<f64>> {
    f.numbers(key).ok_or_else(|| f.error(format!("config `{key}` is no list of numbers")))
}

/// Lists of numbers of the configuration.
fn lists(f: &Fixture, key: &str) -> Result<Vec<Vec<f64>>> {
    serde_json::from_value(f.config(key).clone())
        .map_err(|_| f.error(format!("config `{key}` are no lists of numbers")))
}

/// Pairs of numbers of the configuration.
fn pairs(f: &Fixture, key: &str) -> Result<Vec<[usize; 2]>> {
    serde_json::from_value(f.config(key).clone())
        .map_err(|_| f.error(format!("config `{key}` are no pairs of numbers")))
}

/// Rows of four numbers, of which there may be none.
fn regions(array: &Array) -> Vec<Region> {
    array.values.as_chunks::<4>().0.to_vec()
}

fn whole(array: &Array) -> Vec<usize> {
    array.values.iter().map(|v| *v as usize).collect()
}

fn floats(values: impl IntoIterator<Item = impl Into<f64>>) -> Vec<f32> {
    values.into_iter().map(|v| v.into() as f32).collect()
}

/// Compares numbers that must be equal, if the file has them.
fn exact(f: &Fixture, report: &mut FixtureReport, name: &str, ours: &[f32]) {
    if let Some(theirs) = f.find(name) {
        report.exact(name, ours, theirs);
    }
}

/// Compares an output if the file has it.
fn near(f: &Fixture, report: &mut FixtureReport, name: &str, ours: &[f32]) {
    if let Some(theirs) = f.find(name) {
        report.relative(name, ours, theirs, OUTPUT);
    }
}

/// Gradients of parameters and of features.
fn all_gradients(
    g: &Gpu, f: &Fixture, report: &mut FixtureReport, params: &Params, features: &[Var], grads: &Grads,
) -> Result<()> {
    gradients(g, f, report, params, grads, |name| (name.to_string(), None))?;
    for (i, feature) in features.iter().enumerate() {
        input_gradient(g, f, report, &format!("input.features.{i}"), feature, grads)?;
    }
    Ok(())
}

/// Kind `simple_feature_pyramid`.
pub fn simple_pyramid(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let (shape, values) = channels_last(f.get("input.features")?);
    let width = f.size("dim", shape.last().copied().unwrap_or(0))?;
    let (outputs, eps) = (f.size("out_channels", 256)?, f.number("eps", 1e-6)? as f32);
    let mut params = Params::new(g);
    let model = SimpleFeaturePyramid::new(&mut params, width, outputs, eps)?;
    let x = Var::leaf(Tensor::from_slice(g, &shape, &values)?);
    pyramid(g, f, report, &params, &[("input.features".into(), &x)], |r| model.forward(r, &x))
}

/// Kind `feature_pyramid`.
pub fn feature_pyramid(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let wrong = |maps: Vec<_>| Error::argument("input.features", maps.len(), "4 maps");
    let maps: [Var; 4] = features(g, f)?.try_into().map_err(wrong)?;
    let widths = maps.each_ref().map(|map| map.data.shape()[3]);
    let (outputs, eps) = (f.size("out_channels", 256)?, f.number("eps", 1e-6)? as f32);
    let mut params = Params::new(g);
    let model = FeaturePyramid::new(&mut params, widths, outputs, eps)?;
    let inputs: Vec<_> = maps.iter().enumerate().map(|(i, map)| (format!("input.features.{i}"), map)).collect();
    pyramid(g, f, report, &params, &inputs, |r| model.forward(r, &maps))
}

/// Maps of a pyramid, and the gradients of the sum of all their elements times `input.dout.p2` to `p6`.
fn pyramid(
    g: &Gpu, f: &Fixture, report: &mut FixtureReport, params: &Params, inputs: &[(String, &Var)],
    forward: impl FnOnce(&mut Recorder) -> Result<[Var; 5]>,
) -> Result<()> {
    params.load(g, &weights(f))?;
    let mut r = Recorder::new(g);
    let levels = forward(&mut r)?;
    // the gradient of a sum of results is that of its parts: each level starts from its own
    let mut seeds = Vec::new();
    for (level, name) in levels.iter().zip(["p2", "p3", "p4", "p5", "p6"]) {
        let (shape, values) = channels_last(f.get(&format!("input.dout.{name}"))?);
        seeds.push((level, Tensor::from_slice(g, &shape, &values)?));
    }
    let seeded = weighted_sum(&mut r, seeds);
    let grads = r.backward(&seeded, params.grads())?;
    r.run()?;
    for (level, name) in levels.iter().zip(["p2", "p3", "p4", "p5", "p6"]) {
        map(g, f, report, &format!("output.{name}"), level)?;
    }
    gradients(g, f, report, params, &grads, |name| (name.to_string(), None))?;
    inputs.iter().try_for_each(|(name, x)| input_gradient(g, f, report, name, x, &grads))
}

/// A variable whose gradient of 1 gives each result the gradient beside it. It has no value.
fn weighted_sum(r: &mut Recorder, seeds: Vec<(&Var, Tensor)>) -> Var {
    let (results, seeds): (Vec<&Var>, Vec<Tensor>) = seeds.into_iter().unzip();
    r.push(&results[..], Tensor::scratch("sum of results", &[1]), |r, results: Vec<Var>, _, grads| {
        results.iter().zip(seeds).try_for_each(|(result, seed)| grads.add(r, result, seed))
    })
}

/// Kind `rpn`.
pub fn region_proposals(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let features = features(g, f)?;
    let maps: Vec<[usize; 2]> = features.iter().map(|map| [map.data.shape()[1], map.data.shape()[2]]).collect();
    let b = features.first().map_or(0, |map| map.data.shape()[0]);
    let anchors = Anchors {
        strides: numbers(f, "strides")?,
        sizes: lists(f, "anchor_sizes")?,
        ratios: numbers(f, "aspect_ratios")?,
        offset: f.number("offset", 0.0)?,
    };
    let levels = anchors.of(&maps);
    let all: Vec<Region> = levels.concat();
    near(f, report, "output.anchors", &floats(all.concat()));

    let labels = numbers(f, "iou_labels")?.into_iter().map(|label| label as i8).collect();
    let matcher = Matcher {
        thresholds: numbers(f, "iou_thresholds")?,
        labels,
        low_quality: f.flag("allow_low_quality_matches", true)?,
    };
    let sampler =
        BoxSampler { count: f.size("batch_size_per_image", 256)?, fraction: f.number("positive_fraction", 0.5)? };
    let keys = f.get("input.sample_key")?;
    let [mut index, mut label, mut sampled] = [const { Vec::new() }; 3];
    let mut values = [const { Vec::new() }; 3];
    for (sample, keys) in keys.values.chunks(all.len().max(1)).enumerate().take(b) {
        let truths = regions(f.get(&format!("input.gt_boxes.{sample}"))?);
        let matches = matcher.of(&truths, &all);
        let [objects, background] = sampler.draw(&matches.label, keys);
        let mut drawn = vec![-1.0f32; all.len()];
        objects.iter().for_each(|i| drawn[*i] = 1.0);
        background.iter().for_each(|i| drawn[*i] = 0.0);
        sampled.extend(drawn);
        let of = RegionTargets::values(&all, &truths, &matches.truth, [&objects, &background]);
        values.iter_mut().zip(of).for_each(|(all, one)| all.extend(one));
        index.extend(matches.truth.into_iter().map(|i| i as f32));
        label.extend(matches.label.into_iter().map(f32::from));
    }
    exact(f, report, "output.match_index", &index);
    exact(f, report, "output.match_label", &label);
    exact(f, report, "output.sampled_label", &sampled);
    near(f, report, "output.target_deltas", &values[2]);

    let mut params = Params::new(g);
    let convs = count(f, "rpn_head.conv.conv", "weight").max(1);
    let channels = f.size("channels", 256)?;
    let model = RegionProposals::new(&mut params, channels, convs, anchors.per_cell())?;
    params.load(g, &weights(f))?;
    let mut r = Recorder::new(g);
    let found = model.forward(&mut r, &features)?;
    let targets = by_level(g, &levels, b, &values)?;
    let [classes, boxes] = model.losses(&mut r, &found, &targets, sampler.count)?;
    let total = crate::ops::add::add(&mut r, &classes, &boxes)?;
    let grads = r.backward(&total, params.grads())?;
    r.run()?;
    let said = found.iter().map(|level| said(g, level, b)).collect::<Result<Vec<_>>>()?;
    let joined = |which: usize| -> Vec<f32> {
        (0..b).flat_map(|sample| said.iter().flat_map(move |level| level[which][sample].clone())).collect()
    };
    near(f, report, "output.objectness", &joined(0));
    near(f, report, "output.deltas", &joined(1));
    loss(g, f, report, "output.loss_rpn_cls", &classes)?;
    loss(g, f, report, "output.loss_rpn_loc", &boxes)?;
    all_gradients(g, f, report, &params, &features, &grads)?;
    let sizes = pairs(f, "image_sizes")?;
    for (phase, name) in ["train", "test"].into_iter().enumerate() {
        let most = |key: &str| {
            let most = numbers(f, key)?;
            most.get(phase)
                .map(|most| *most as usize)
                .ok_or_else(|| f.error(format!("config `{key}` are not two numbers")))
        };
        let options = ProposalOptions {
            before: most("pre_nms_topk")?,
            after: most("post_nms_topk")?,
            overlap: f.number("nms_thresh", 0.7)?,
            least_side: f.number("min_box_size", 0.0)?,
        };
        for (sample, size) in sizes.iter().enumerate().take(b) {
            let candidates: Vec<Candidates<'_>> = said
                .iter()
                .zip(&levels)
                .map(|(said, anchors)| Candidates { anchors, scores: &said[0][sample], deltas: &said[1][sample] })
                .collect();
            let (boxes, scores) = proposals(&candidates, size.map(|side| side as f64), &options, phase == 0)?;
            near(f, report, &format!("output.{name}.proposals.{sample}"), &boxes.concat());
            near(f, report, &format!("output.{name}.logits.{sample}"), &scores);
        }
    }
    Ok(())
}

/// Targets of all anchors (B, n, ..) as those of each level.
fn by_level(g: &Gpu, levels: &[Vec<Region>], b: usize, values: &[Vec<f32>; 3]) -> Result<Vec<RegionTargets>> {
    let (total, mut start) = (levels.iter().map(Vec::len).sum::<usize>(), 0);
    let mut targets = Vec::new();
    for level in levels {
        let n = level.len();
        let part = |values: &[f32], each: usize| -> Vec<f32> {
            (0..b).flat_map(|sample| values[(sample * total + start) * each..][..n * each].iter().copied()).collect()
        };
        let tensor = |i: usize, shape: &[usize], each| Tensor::from_slice(g, shape, &part(&values[i], each));
        targets.push(RegionTargets {
            object: tensor(0, &[b, n], 1)?,
            sampled: tensor(1, &[b, n], 1)?,
            deltas: tensor(2, &[b, n, 4], 4)?,
        });
        start += n;
    }
    Ok(targets)
}

/// Scores and deltas of a level, by picture.
fn said(g: &Gpu, level: &LevelProposals, b: usize) -> Result<[Vec<Vec<f32>>; 2]> {
    let parts = |values: Vec<f32>| values.chunks(values.len() / b.max(1)).map(<[f32]>::to_vec).collect();
    Ok([parts(level.objectness.data.to_vec(g)?), parts(level.deltas.data.to_vec(g)?)])
}

/// How boxes are pooled in the file.
fn pooling(f: &Fixture, default: usize) -> Result<RoiAlignOptions> {
    let side = f.size("pooler_resolution", default)?;
    Ok(RoiAlignOptions {
        samples: f.number("sampling_ratio", 0.0)?.max(0.0) as usize,
        canonical_size: f.number("canonical_box_size", 224.0)?,
        canonical_level: f.number("canonical_level", 4.0)?,
        ..RoiAlignOptions::new([side; 2])
    })
}

/// Kind `cascade_heads`.
pub fn cascade(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let stages = numbers(f, "ious")?.into_iter().zip(lists(f, "box_weights")?).map(|(overlap, weights)| {
        let four = <[f64; 4]>::try_from(weights).map_err(|_| f.error("config `box_weights` are not four numbers"))?;
        Ok((overlap, four))
    });
    let config = CascadeConfig {
        channels: f.size("channels", 256)?,
        width: f.size("conv_dim", 256)?,
        convs: f.size("num_conv", 4)?,
        features: f.size("fc_dim", 1024)?,
        classes: f.size("num_classes", 80)?,
        strides: numbers(f, "strides")?,
        pool: pooling(f, 7)?,
        stages: stages.collect::<Result<_>>()?,
        eps: f.number("ln_eps", 1e-6)? as f32,
    };
    let features = features(g, f)?;
    let sizes = pairs(f, "image_sizes")?;
    let mut params = Params::new(g);
    let model = CascadeHeads::new(&mut params, &config)?;
    params.load(g, &weights(f))?;
    let rows: Vec<f32> = sizes.iter().flatten().map(|side| *side as f32).collect();
    let rows = Tensor::from_slice(g, &[sizes.len(), 2], &rows)?;
    cascade_training(g, f, report, (&model, &params), &config, &features, &rows)?;
    cascade_test(g, f, report, &model, &config, &features, &rows)
}

fn cascade_training(
    g: &Gpu, f: &Fixture, report: &mut FixtureReport, (model, params): (&CascadeHeads, &Params),
    config: &CascadeConfig, features: &[Var], sizes: &Tensor,
) -> Result<()> {
    let b = sizes.shape()[0];
    let sampler =
        BoxSampler { count: f.size("batch_size_per_image", 512)?, fraction: f.number("positive_fraction", 0.25)? };
    let append = f.flag("proposal_append_gt", true)?;
    let n = sampler.count * b;
    let mut first = BoxRows::empty(n);
    let mut truths = Vec::new();
    let (threshold, weights) = config.stages[0];
    for sample in 0..b {
        let boxes = regions(f.get(&format!("input.gt_boxes.{sample}"))?);
        let classes = whole(f.get(&format!("input.gt_classes.{sample}"))?);
        let mut candidates = regions(f.get(&format!("input.proposals.{sample}"))?);
        if append {
            candidates.extend(&boxes);
        }
        let matches = Matcher::stage(threshold).of(&boxes, &candidates);
        let keys = &f.get(&format!("input.sample_key.{sample}"))?.values;
        let [objects, background] = sampler.draw(&matches.label, keys);
        let chosen = [&objects[..], &background].concat();
        exact(f, report, &format!("output.sampled_index.{sample}"), &floats(chosen.iter().map(|i| *i as u32)));
        for (slot, i) in chosen.iter().enumerate() {
            let is_object = slot < objects.len();
            let class = if is_object { classes[matches.truth[*i]] } else { config.classes };
            let target = is_object.then(|| encode(&candidates[*i], &boxes[matches.truth[*i]], &weights));
            first.put(sample * sampler.count + slot, sample, &candidates[*i], class, target);
        }
        truths.push(boxes.iter().zip(classes).map(|(b, class)| [&b[..], &[class as f64]].concat()).collect::<Vec<_>>());
    }
    let first = first.tensors(g)?;
    let most = truths.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let absent = vec![0.0, 0.0, 0.0, 0.0, -1.0];
    let padded = truths.into_iter().flat_map(|of| of.into_iter().chain(std::iter::repeat(absent.clone())).take(most));
    let truths = Tensor::from_slice(g, &[b, most, 5], &floats(padded.flatten()))?;

    let mut r = Recorder::new(g);
    let (stages, total) = model.train(&mut r, features, &first, sizes, &truths)?;
    let grads = r.backward(&total, params.grads())?;
    r.run()?;
    let mut before: Option<Vec<bool>> = None;
    for (k, stage) in stages.iter().enumerate() {
        let valid: Vec<bool> = stage.targets.valid.to_vec(g)?.into_iter().map(|v| v == 1.0).collect();
        let rows = |sample: usize| sample * sampler.count..(sample + 1) * sampler.count;
        let of = |values: &[f32], range: std::ops::Range<usize>| -> Vec<f32> {
            let each = values.len() / n.max(1);
            let kept = range.filter(|row| valid[*row]);
            kept.flat_map(|row| values[row * each..][..each].iter().copied()).collect()
        };
        let rois = stage.targets.rois.to_vec(g)?;
        let corners: Vec<f32> = rois.chunks(5).flat_map(|roi| roi[1..].iter().copied()).collect();
        let labels: Vec<f32> =
            stage.targets.labels.to_vec(g)?.into_iter().map(|label| label.to_bits() as f32).collect();
        for sample in 0..b {
            near(f, report, &format!("output.stage{k}.proposals.{sample}"), &of(&corners, rows(sample)));
            exact(f, report, &format!("output.stage{k}.classes.{sample}"), &of(&labels, rows(sample)));
            if let Some(before) = &before {
                let kept = rows(sample).filter(|row| before[*row]).map(|row| u8::from(valid[row]));
                exact(f, report, &format!("output.stage{k}.kept.{sample}"), &floats(kept));
            }
        }
        let level =
            |corners: &[f32]| config.pool.level(&config.strides, [corners[0], corners[1], corners[2], corners[3]]);
        let levels: Vec<f32> = corners.chunks(4).map(|corners| level(corners) as f32).collect();
        exact(f, report, &format!("output.stage{k}.level"), &of(&levels, 0..n));
        near(f, report, &format!("output.stage{k}.scores"), &of(&stage.scores.logits.data.to_vec(g)?, 0..n));
        near(f, report, &format!("output.stage{k}.deltas"), &of(&stage.scores.deltas.data.to_vec(g)?, 0..n));
        near(f, report, &format!("act.stage{k}.pooled"), &of(&channels_first(g, &stage.scores.pooled.data)?, 0..n));
        loss(g, f, report, &format!("output.stage{k}.loss_cls"), &stage.losses[0])?;
        loss(g, f, report, &format!("output.stage{k}.loss_box_reg"), &stage.losses[1])?;
        before = Some(valid);
    }
    loss(g, f, report, "output.loss", &total)?;
    all_gradients(g, f, report, params, features, &grads)
}

/// Boxes of all pictures (`prefix` and the picture's number), one behind the other, of these classes.
fn rows_of(f: &Fixture, b: usize, boxes: &str, classes: Option<&str>) -> Result<(BoxRows, Vec<usize>)> {
    let mut all = Vec::new();
    let mut counts = Vec::new();
    for sample in 0..b {
        let boxes = regions(f.get(&format!("{boxes}.{sample}"))?);
        let kinds = match classes {
            Some(classes) => whole(f.get(&format!("{classes}.{sample}"))?),
            None => vec![0; boxes.len()],
        };
        counts.push(boxes.len());
        all.extend(boxes.into_iter().zip(kinds).map(|(b, class)| (sample, b, class)));
    }
    let mut rows = BoxRows::empty(all.len());
    for (row, (sample, b, class)) in all.into_iter().enumerate() {
        rows.put(row, sample, &b, class, None);
    }
    Ok((rows, counts))
}

fn cascade_test(
    g: &Gpu, f: &Fixture, report: &mut FixtureReport, model: &CascadeHeads, config: &CascadeConfig, features: &[Var],
    sizes: &Tensor,
) -> Result<()> {
    let b = sizes.shape()[0];
    let (rows, counts) = rows_of(f, b, "input.proposals", None)?;
    let boxes = rows.tensors(g)?;
    let mut r = Recorder::inference(g);
    let (logits, rois) = model.infer(&mut r, features, &boxes.rois, &boxes.valid, sizes)?;
    r.run()?;
    let columns = config.classes + 1;
    let mut probabilities = vec![0.0f64; rows.valid.len() * columns];
    let stages = logits.len() as f64;
    for logits in &logits {
        let values = logits.data.to_vec(g)?;
        for (sum, row) in probabilities.chunks_mut(columns).zip(values.chunks(columns)) {
            let most = row.iter().copied().fold(f32::MIN, f32::max);
            let powers: Vec<f64> = row.iter().map(|v| f64::from(v - most).exp()).collect();
            let total: f64 = powers.iter().sum();
            sum.iter_mut().zip(powers).for_each(|(sum, power)| *sum += power / total / stages);
        }
    }
    let probabilities = floats(probabilities);
    let corners: Vec<Corners> = rois.to_vec(g)?.chunks(5).map(|roi| [roi[1], roi[2], roi[3], roi[4]]).collect();
    let mut start = 0;
    for (sample, count) in counts.into_iter().enumerate() {
        let (boxes, sure) = (&corners[start..][..count], &probabilities[start * columns..][..count * columns]);
        near(f, report, &format!("output.test.probs.{sample}"), sure);
        near(f, report, &format!("output.test.all_boxes.{sample}"), &boxes.concat());
        let most = f.size("detections_per_image", 100)?;
        let found = detections(boxes, sure, f.number("score_thresh", 0.05)?, f.number("nms_thresh", 0.5)?, most);
        let name = |what: &str| format!("output.test.{what}.{sample}");
        near(f, report, &name("boxes"), &found.iter().flat_map(|d| d.corners).collect::<Vec<_>>());
        near(f, report, &name("scores"), &found.iter().map(|d| d.score).collect::<Vec<_>>());
        exact(f, report, &name("classes"), &found.iter().map(|d| d.class as f32).collect::<Vec<_>>());
        start += count;
    }
    Ok(())
}

/// Kind `mask_head`.
pub fn masks(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let config = MaskHeadConfig {
        channels: f.size("channels", 256)?,
        width: f.size("conv_dim", 256)?,
        convs: f.size("num_conv", 4)?,
        classes: f.size("num_classes", 80)?,
        strides: numbers(f, "strides")?,
        pool: pooling(f, 14)?,
        eps: f.number("ln_eps", 1e-6)? as f32,
    };
    let features = features(g, f)?;
    let b = features.first().map_or(0, |map| map.data.shape()[0]);
    let side = 2 * config.pool.output[0];
    let mut params = Params::new(g);
    let model = MaskHead::new(&mut params, &config)?;
    params.load(g, &weights(f))?;

    let (rows, counts) = rows_of(f, b, "input.proposals", Some("input.classes"))?;
    let total: usize = counts.iter().sum();
    let boxes = rows.tensors(g)?;
    let targets = mask_targets(f, &counts, side)?;
    exact(f, report, "output.mask_targets", &floats(targets.clone()));
    let level = |roi: &[f32]| config.pool.level(&config.strides, [roi[1], roi[2], roi[3], roi[4]]) as f32;
    let levels: Vec<f32> = rows.rois.chunks(5).take(total).map(level).collect();
    exact(f, report, "output.level", &levels);
    let mut padded = floats(targets);
    padded.resize(rows.valid.len() * side * side, 0.0);
    let targets = Tensor::from_slice(g, &[rows.valid.len(), side, side], &padded)?;
    let mut r = Recorder::new(g);
    let masks = model.forward(&mut r, &features, &boxes.rois, &boxes.labels)?;
    let sum = model.loss(&mut r, &masks, &targets, &boxes.valid)?;
    let grads = r.backward(&sum, params.grads())?;
    r.run()?;
    near(f, report, "output.logits", &masks.data.to_vec(g)?[..total * side * side]);
    loss(g, f, report, "output.loss", &sum)?;
    all_gradients(g, f, report, &params, &features, &grads)?;

    if f.find("input.test.boxes.0").is_none() {
        return Ok(());
    }
    let (rows, counts) = rows_of(f, b, "input.test.boxes", Some("input.test.classes"))?;
    let boxes = rows.tensors(g)?;
    let mut r = Recorder::inference(g);
    let masks = model.forward(&mut r, &features, &boxes.rois, &boxes.labels)?;
    r.run()?;
    let sigmoid = |v: f32| (1.0 / (1.0 + (-f64::from(v)).exp())) as f32;
    let probabilities: Vec<f32> = masks.data.to_vec(g)?.into_iter().map(sigmoid).collect();
    let (from, to) = (pairs(f, "image_sizes")?, pairs(f, "output_sizes")?);
    let mut start = 0;
    for (sample, count) in counts.into_iter().enumerate() {
        let (Some(from), Some(to)) = (from.get(sample), to.get(sample)) else {
            return Err(f.error(format!("config `image_sizes` or `output_sizes` has no picture {sample}")));
        };
        let sure = &probabilities[start * side * side..][..count * side * side];
        near(f, report, &format!("output.test.probs.{sample}"), sure);
        let found = on_picture(&regions(f.get(&format!("input.test.boxes.{sample}"))?), *from, *to);
        exact(f, report, &format!("output.test.kept.{sample}"), &floats(found.iter().map(|(_, kept)| u8::from(*kept))));
        let kept = || found.iter().enumerate().filter(|(_, (_, kept))| *kept).map(|(i, (b, _))| (i, b));
        near(f, report, &format!("output.test.boxes.{sample}"), &floats(kept().flat_map(|(_, b)| *b)));
        let threshold = f.number("mask_threshold", 0.5)?;
        let one = |(i, b): (usize, &Region)| pasted(&sure[i * side * side..][..side * side], side, *b, *to, threshold);
        exact(f, report, &format!("output.test.pasted.{sample}"), &floats(kept().flat_map(one)));
        start += count;
    }
    Ok(())
}

/// The masks that the head should give the boxes of all pictures, of 0 and 1.
fn mask_targets(f: &Fixture, counts: &[usize], side: usize) -> Result<Vec<u8>> {
    let polygons: Vec<Vec<Vec<Vec<f64>>>> = match f.config("polygons") {
        serde_json::Value::Null => Vec::new(),
        value => serde_json::from_value(value.clone())
            .map_err(|_| f.error("config `polygons` are not polygons of parts of instances of pictures"))?,
    };
    let as_bitmaps = f.config("mask_format").as_str() == Some("bitmask");
    let mut targets = Vec::new();
    for sample in 0..counts.len() {
        let boxes = regions(f.get(&format!("input.proposals.{sample}"))?);
        let index = whole(f.get(&format!("input.gt_index.{sample}"))?);
        for (b, i) in boxes.iter().zip(index) {
            let missing = || f.error(format!("picture {sample} has no instance {i}"));
            targets.extend(if as_bitmaps {
                let all = f.get(&format!("input.gt_bitmask.{sample}"))?;
                let [_, rows, cols] = all.shape[..].try_into().map_err(|_| f.error("`gt_bitmask` has not 3 axes"))?;
                let mask = all.values.chunks((rows * cols).max(1)).nth(i).ok_or_else(missing)?;
                let mask: Vec<u8> = mask.iter().map(|v| u8::from(*v != 0.0)).collect();
                bitmap_target(&mask, [rows, cols], *b, side)?
            } else {
                let parts = polygons.get(sample).and_then(|of| of.get(i)).ok_or_else(missing)?;
                polygon_target(parts, *b, side as u32)?
            });
        }
    }
    Ok(targets)
}

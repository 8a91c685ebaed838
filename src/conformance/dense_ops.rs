//! Kinds `roi_align` and `dense_ops`: operators of dense tasks, alone. Maps of the file are [B, C, H, W].

use std::collections::BTreeMap;

use super::compare::{FixtureReport, GRADIENT, OUTPUT};
use super::fixture::{Array, Fixture};
use super::hierarchy::sizes;
use super::maps::{channels_first, channels_last};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::dense::boxes::{decode, encode};
use crate::ops::batch_norm::{BatchNormOptions, BatchStatistics, batch_norm};
use crate::ops::conv2d::{Conv2dOptions, conv2d, conv2d_transposed};
use crate::ops::local_norm_pool::{Neighbors, local_norm_pool};
use crate::ops::masked_loss::{Divisor, bce_with_logits};
use crate::ops::matmul::{MatmulOptions, matmul};
use crate::ops::norm::{NormOptions, layer_norm};
use crate::ops::pool::{Windows, max_pool};
use crate::ops::resample::{adaptive_average, bilinear};
use crate::ops::reshape::reshape;
use crate::ops::roi_align::{RoiAlignOptions, roi_align as pooled};
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

const PAIRS: Windows = Windows { kernel: [2; 2], stride: [2; 2], padding: [0; 2] };
const EVERY_SECOND: Windows = Windows { kernel: [1; 2], stride: [2; 2], padding: [0; 2] };

/// A tensor of the file as an operand, with the channels last if it is a map.
fn leaf(g: &Gpu, f: &Fixture, name: &str) -> Result<Var> {
    let (shape, values) = channels_last(f.get(name)?);
    Tensor::from_slice(g, &shape, &values).map(Var::leaf)
}

/// A parameter, whose four axes are no map's.
fn parameter(g: &Gpu, f: &Fixture, name: &str) -> Result<Var> {
    let array = f.get(name)?;
    Tensor::from_slice(g, &array.shape, &array.f32()).map(Var::leaf)
}

/// Runs an operator for each of its results by itself, compares them, and collects the gradients.
struct Runs<'a> {
    g: &'a Gpu,
    f: &'a Fixture,
    /// Sums over results, by the operand's name.
    grads: BTreeMap<String, Vec<f32>>,
}

impl Runs<'_> {
    /// `operands` with their names; maps are compared with their channels first.
    fn run(
        &mut self, report: &mut FixtureReport, result: &str, operands: &[(&str, &Var)],
        op: impl FnOnce(&mut Recorder) -> Result<Var>,
    ) -> Result<()> {
        let (g, f) = (self.g, self.f);
        let mut r = Recorder::new(g);
        let out = op(&mut r)?;
        let (_, dout) = channels_last(f.get(&format!("input.dout.{result}"))?);
        let dout = Tensor::from_slice(g, out.data.shape(), &dout)?;
        let grads = r.backward_from(&out, dout, Grads::default())?;
        r.run()?;
        let name = format!("output.{result}");
        report.relative(&name, &channels_first(g, &out.data)?, f.get(&name)?, OUTPUT);
        for (name, operand) in operands {
            let Some(grad) = grads.get(operand) else { continue };
            // weights of a convolution have four axes too, in the file's order
            let values = if name.ends_with("weight") { grad.to_vec(g)? } else { channels_first(g, grad)? };
            let sum = self.grads.entry((*name).to_string()).or_insert_with(|| vec![0.0; values.len()]);
            sum.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
        }
        Ok(())
    }

    /// Compares the gradients collected so far with those of the file.
    fn gradients(&self, report: &mut FixtureReport) {
        for (name, ours) in &self.grads {
            if let Some(theirs) = self.f.find(&format!("grad.input.{name}")) {
                report.relative(&format!("grad.input.{name}"), ours, theirs, GRADIENT);
            }
        }
    }
}

/// Kind `roi_align`.
pub fn roi_align(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let features = leaf(g, f, "input.features")?;
    let rois = f.get("input.rois")?;
    let output = match (f.numbers("output_size").as_deref(), f.size("output_size", 7)) {
        (Some([rows, cols]), _) => [*rows as usize, *cols as usize],
        (None, Ok(side)) => [side; 2],
        _ => return Err(f.error("config `output_size` is neither one nor two numbers")),
    };
    let options = RoiAlignOptions {
        samples: f.number("sampling_ratio", 0.0)?.max(0.0) as usize,
        aligned: f.flag("aligned", true)?,
        ..RoiAlignOptions::new(output)
    };
    let stride = 1.0 / f.number("spatial_scale", 1.0)?;
    let theirs = f.get("output.out")?;
    let dout = channels_last(f.get("input.dout")?).1;
    let (mut ours, mut dx) = (Vec::new(), vec![0.0; features.data.len()]);
    if rois.shape.first() != Some(&0) {
        let rois = Tensor::from_slice(g, &rois.shape, &rois.f32())?;
        let mut r = Recorder::new(g);
        let out = pooled(&mut r, &[(&features, stride)], &rois, options)?;
        let dout = Tensor::from_slice(g, out.data.shape(), &dout)?;
        let grads = r.backward_from(&out, dout, Grads::default())?;
        r.run()?;
        ours = channels_first(g, &out.data)?;
        if let Some(grad) = grads.get(&features) {
            dx = channels_first(g, grad)?;
        }
    }
    report.relative("output.out", &ours, theirs, OUTPUT);
    if let Some(theirs) = f.find("grad.input.features") {
        report.relative("grad.input.features", &dx, theirs, GRADIENT);
    }
    Ok(())
}

/// Kind `dense_ops`: every operator whose operands the file has.
pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let runs = &mut Runs { g, f, grads: BTreeMap::new() };
    let has = |name: &str| f.find(&format!("input.{name}")).is_some();
    if has("conv.x") {
        convolutions(runs, report)?;
    }
    if has("pool.x") {
        resized(runs, report)?;
    }
    if has("bn.x") {
        norms(runs, report)?;
    }
    if has("bce.logits") {
        cross_entropy(g, f, report)?;
    }
    if has("gather.x") {
        points(runs, report)?;
    }
    if has("coder.src") {
        coder(f, report)?;
    }
    runs.gradients(report);
    Ok(())
}

fn convolutions(runs: &mut Runs<'_>, report: &mut FixtureReport) -> Result<()> {
    let (g, f) = (runs.g, runs.f);
    let (x, w, b) =
        (leaf(g, f, "input.conv.x")?, parameter(g, f, "input.conv.weight")?, parameter(g, f, "input.conv.bias")?);
    let operands = [("conv.x", &x), ("conv.weight", &w), ("conv.bias", &b)];
    runs.run(report, "conv.out", &operands, |r| {
        let [_, _, rows, cols] = w.data.dims("conv.weight")?;
        let padding = [rows / 2, rows / 2, cols / 2, cols / 2];
        conv2d(r, &x, &w, Conv2dOptions { bias: Some(&b), padding, ..Conv2dOptions::default() })
    })?;
    let (x, w, b) =
        (leaf(g, f, "input.deconv.x")?, parameter(g, f, "input.deconv.weight")?, parameter(g, f, "input.deconv.bias")?);
    let operands = [("deconv.x", &x), ("deconv.weight", &w), ("deconv.bias", &b)];
    runs.run(report, "deconv.out", &operands, |r| {
        conv2d_transposed(r, &x, &w, Conv2dOptions { bias: Some(&b), stride: [2; 2], ..Conv2dOptions::default() })
    })
}

fn resized(runs: &mut Runs<'_>, report: &mut FixtureReport) -> Result<()> {
    let (g, f) = (runs.g, runs.f);
    let x = leaf(g, f, "input.pool.x")?;
    for side in sizes(f, "pool_scales")? {
        let name = format!("pool.out{side}");
        runs.run(report, &name, &[("pool.x", &x)], |r| adaptive_average(r, &x, [side; 2]))?;
    }
    if f.find("output.subsample.out").is_some() {
        runs.run(report, "subsample.out", &[("pool.x", &x)], |r| max_pool(r, &x, EVERY_SECOND))?;
    }
    let x = leaf(g, f, "input.up.x")?;
    for size in f.config("up_sizes").as_array().into_iter().flatten() {
        let side = |i: usize| size[i].as_u64().filter(|side| *side < 65_536).map(|side| side as usize);
        let (Some(rows), Some(cols)) = (side(0), side(1)) else {
            return Err(f.error("config `up_sizes` are no pairs of numbers"));
        };
        let name = format!("up.out{rows}x{cols}");
        runs.run(report, &name, &[("up.x", &x)], |r| bilinear(r, &x, [rows, cols], false))?;
    }
    let x = leaf(g, f, "input.max.x")?;
    runs.run(report, "max.out", &[("max.x", &x)], |r| max_pool(r, &x, PAIRS))
}

fn norms(runs: &mut Runs<'_>, report: &mut FixtureReport) -> Result<()> {
    let (g, f) = (runs.g, runs.f);
    let (x, w, b) = (leaf(g, f, "input.bn.x")?, leaf(g, f, "input.bn.weight")?, leaf(g, f, "input.bn.bias")?);
    let start = |name: &str, value: f32| {
        let given = f.find(&format!("input.bn.{name}")).map(Array::f32);
        Tensor::from_slice(g, w.data.shape(), &given.unwrap_or_else(|| vec![value; w.data.len()]))
    };
    let (mean, var) = (start("running_mean", 0.0)?, start("running_var", 1.0)?);
    let (eps, momentum) = (f.number("bn_eps", 1e-5)? as f32, f.number("bn_momentum", 0.1)?);
    runs.run(report, "bn.out", &[("bn.x", &x), ("bn.weight", &w), ("bn.bias", &b)], |r| {
        let statistics = BatchStatistics::Batch { running: Some([&mean, &var]), momentum };
        batch_norm(r, &x, &w, &b, BatchNormOptions { eps, ..BatchNormOptions::new(statistics) })
    })?;
    for (name, ours) in [("output.bn.running_mean", &mean), ("output.bn.running_var", &var)] {
        if let Some(theirs) = f.find(name) {
            report.relative(name, &ours.to_vec(g)?, theirs, OUTPUT);
        }
    }
    let (x, w, b) = (leaf(g, f, "input.ln.x")?, leaf(g, f, "input.ln.weight")?, leaf(g, f, "input.ln.bias")?);
    let eps = f.number("ln_eps", 1e-6)? as f32;
    runs.run(report, "ln.out", &[("ln.x", &x), ("ln.weight", &w), ("ln.bias", &b)], |r| {
        Ok(layer_norm(r, &x, &w, &b, NormOptions::eps(eps))?.0)
    })
}

fn cross_entropy(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let (x, target, valid) =
        (leaf(g, f, "input.bce.logits")?, leaf(g, f, "input.bce.target")?, leaf(g, f, "input.bce.valid")?);
    let columns = x.data.rows_cols().1 as f64;
    let mut r = Recorder::new(g);
    let divisor = Divisor::Times(columns, &valid.data);
    let loss = bce_with_logits(&mut r, &x, &target.data, &valid.data, divisor)?;
    let grads = r.backward(&loss, Grads::default())?;
    r.run()?;
    super::model::loss(g, f, report, "output.bce.loss", &loss)?;
    if let (Some(theirs), Some(ours)) = (f.find("grad.input.bce.logits"), grads.get(&x)) {
        report.relative("grad.input.bce.logits", &ours.to_vec(g)?, theirs, GRADIENT);
    }
    Ok(())
}

/// What the networks on point clouds are made of. Gathering rows is part of `local_norm_pool`; alone it is a product
/// with rows of a single 1.
fn points(runs: &mut Runs<'_>, report: &mut FixtureReport) -> Result<()> {
    let (g, f) = (runs.g, runs.f);
    let (array, index) = (f.get("input.gather.x")?, f.get("input.gather.index")?);
    let ([b, t, c], [_, _, k]) = (three(f, array)?, three(f, index)?);
    // (B, T·K, T) times x, which a product takes as (B, C, T)
    let mut chosen = vec![0.0f32; b * t * k * t];
    index.values.iter().enumerate().for_each(|(row, j)| chosen[row * t + *j as usize] = 1.0);
    let chosen = Var::constant(Tensor::from_slice(g, &[b, t * k, t], &chosen)?);
    let turned = |values: &[f32], rows: usize, cols: usize| -> Vec<f32> {
        let of = |i: usize| values[(i / rows / cols * rows + i % rows) * cols + i / rows % cols];
        (0..values.len()).map(of).collect()
    };
    let x = Var::leaf(Tensor::from_slice(g, &[b, c, t], &turned(&array.f32(), t, c))?);
    let mut r = Recorder::new(g);
    let out = matmul(&mut r, &chosen, &x, MatmulOptions::default())?;
    let dout = Tensor::from_slice(g, out.data.shape(), &f.get("input.dout.gather.out")?.f32())?;
    let grads = r.backward_from(&out, dout, Grads::default())?;
    r.run()?;
    report.relative("output.gather.out", &out.data.to_vec(g)?, f.get("output.gather.out")?, OUTPUT);
    if let (Some(theirs), Some(ours)) = (f.find("grad.input.gather.x"), grads.get(&x)) {
        report.relative("grad.input.gather.x", &turned(&ours.to_vec(g)?, c, t), theirs, GRADIENT);
    }

    let x = leaf(g, f, "input.setmax.x")?;
    let [sets, members, columns] = x.data.dims("setmax.x")?;
    runs.run(report, "setmax.out", &[("setmax.x", &x)], |r| {
        let map = reshape(r, &x, &[sets, members, 1, columns])?;
        let all = Windows { kernel: [members, 1], stride: [1; 2], padding: [0; 2] };
        let most = max_pool(r, &map, all)?;
        reshape(r, &most, &[sets, columns])
    })?;

    let index = f.get("input.lnp.index")?;
    let [b, t, k] = three(f, index)?;
    let index: Vec<u32> = index.values.iter().map(|j| *j as u32).collect();
    let tables = index.chunks(t * k).map(|cloud| Neighbors::table(cloud, k)).collect::<Result<Vec<_>>>()?.concat();
    let neighbors = Neighbors { graph: Tensor::from_indices(g, &[b, Neighbors::len(t, k)], &tables)?, k };
    let (x, alpha, beta) = (leaf(g, f, "input.lnp.x")?, leaf(g, f, "input.lnp.alpha")?, leaf(g, f, "input.lnp.beta")?);
    let operands = [("lnp.x", &x), ("lnp.alpha", &alpha), ("lnp.beta", &beta)];
    runs.run(report, "lnp.out", &operands, |r| local_norm_pool(r, &x, &alpha, &beta, &neighbors, false))
}

fn three(f: &Fixture, array: &Array) -> Result<[usize; 3]> {
    array.shape[..].try_into().map_err(|_| f.error(format!("a tensor of shape {:?} has not 3 dimensions", array.shape)))
}

fn coder(f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let rows = |name: &str| Ok::<Vec<[f64; 4]>, crate::Error>(f.get(name)?.values.as_chunks::<4>().0.to_vec());
    let (from, to) = (rows("input.coder.src")?, rows("input.coder.dst")?);
    let deltas = rows("input.coder.deltas")?;
    for (name, weights) in [("rpn", [1.0; 4]), ("stage0", [10.0, 10.0, 5.0, 5.0])] {
        let encoded: Vec<[f64; 4]> = from.iter().zip(&to).map(|(from, to)| encode(from, to, &weights)).collect();
        let decoded: Vec<[f64; 4]> = from.iter().zip(&deltas).map(|(from, by)| decode(from, by, &weights)).collect();
        for (what, ours) in [("encoded", encoded), ("decoded", decoded)] {
            let name = format!("output.coder.{what}_{name}");
            let ours: Vec<f32> = ours.concat().into_iter().map(|v| v as f32).collect();
            report.relative(&name, &ours, f.get(&name)?, OUTPUT);
        }
    }
    Ok(())
}

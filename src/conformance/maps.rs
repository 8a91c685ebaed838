//! Kinds `conv2d`, `batch_norm`, `pool` and `squeeze_excite`: operators on maps, alone. Maps of the file are
//! [B, C, H, W]; ours have the channels last.

use super::compare::{FixtureReport, GRADIENT, OUTPUT};
use super::fixture::{Array, Fixture};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::ops::activation::silu;
use crate::ops::batch_norm::{BatchNormOptions, BatchStatistics, batch_norm};
use crate::ops::channel_gate::channel_gate;
use crate::ops::conv2d::{Conv2dOptions, conv2d as convolution};
use crate::ops::matmul::{MatmulOptions, matmul};
use crate::ops::pool::{Windows, global_average, max_pool};
use crate::ops::reshape::reshape;
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

/// [B, C, H, W] with the channels last. Other shapes stay as they are.
pub(super) fn channels_last(array: &Array) -> (Vec<usize>, Vec<f32>) {
    match array.shape[..] {
        [b, c, h, w] => (vec![b, h, w, c], moved(&array.f32(), b, c, h * w)),
        _ => (array.shape.clone(), array.f32()),
    }
}

/// [C, H, W] with the channels last: rows and columns, and the values.
pub(super) fn channels_last_of_one(array: &Array) -> ([usize; 2], Vec<f32>) {
    match array.shape[..] {
        [c, h, w] => ([h, w], moved(&array.f32(), 1, c, h * w)),
        _ => ([0, 0], array.f32()),
    }
}

/// (b, rows, cols) as (b, cols, rows).
fn moved(values: &[f32], b: usize, rows: usize, cols: usize) -> Vec<f32> {
    let at = |i: usize| (i / (rows * cols), i % (rows * cols) / rows, i % rows);
    (0..b * rows * cols).map(at).map(|(b, col, row)| values[(b * rows + row) * cols + col]).collect()
}

/// A map of ours as the file has it. Other shapes stay as they are.
pub(super) fn channels_first(g: &Gpu, map: &Tensor) -> Result<Vec<f32>> {
    let values = map.to_vec(g)?;
    Ok(match *map.shape() {
        [b, h, w, c] => moved(&values, b, h * w, c),
        _ => values,
    })
}

/// An operator on a map and its parameters.
struct Case<'a> {
    g: &'a Gpu,
    f: &'a Fixture,
    x: Var,
    params: Vec<(&'a str, Var)>,
}

impl<'a> Case<'a> {
    fn new(g: &'a Gpu, f: &'a Fixture) -> Result<Self> {
        let (shape, values) = channels_last(f.get("input.x")?);
        let x = Var::leaf(Tensor::from_slice(g, &shape, &values)?);
        let leaf = |array: &Array| Tensor::from_slice(g, &array.shape, &array.f32()).map(Var::leaf);
        let params = f.with_prefix("param.").map(|(name, array)| Ok((name, leaf(array)?))).collect::<Result<_>>()?;
        Ok(Self { g, f, x, params })
    }

    fn find(&self, name: &str) -> Option<&Var> {
        self.params.iter().find(|(known, _)| *known == name).map(|(_, var)| var)
    }

    fn param(&self, name: &str) -> Result<&Var> {
        self.find(name).ok_or_else(|| self.f.error(format!("tensor `param.{name}` is missing")))
    }

    /// Two numbers of the configuration, for rows and columns.
    fn pair(&self, key: &str) -> Result<[usize; 2]> {
        let numbers = self.sizes(key)?;
        numbers.try_into().map_err(|_| self.f.error(format!("config `{key}` are not two numbers")))
    }

    fn sizes(&self, key: &str) -> Result<Vec<usize>> {
        let numbers =
            self.f.numbers(key).ok_or_else(|| self.f.error(format!("config `{key}` is no list of numbers")))?;
        Ok(numbers.into_iter().map(|n| n as usize).collect())
    }

    /// Runs `op` forward and backward and compares the result and every gradient.
    fn check(&self, report: &mut FixtureReport, op: impl FnOnce(&mut Recorder, &Self) -> Result<Var>) -> Result<()> {
        let &Self { g, f, .. } = self;
        let mut r = Recorder::new(g);
        let out = op(&mut r, self)?;
        let (shape, dout) = channels_last(f.get("input.dout")?);
        let grads = r.backward_from(&out, Tensor::from_slice(g, &shape, &dout)?, Grads::default())?;
        r.run()?;
        report.relative("output.out", &channels_first(g, &out.data)?, f.get("output.out")?, OUTPUT);
        for (name, theirs) in f.with_prefix("grad.") {
            let var = if name == "input.x" { &self.x } else { self.param(name)? };
            let ours = match grads.get(var) {
                Some(grad) if name == "input.x" => channels_first(g, grad)?,
                Some(grad) => grad.to_vec(g)?,
                None => Vec::new(),
            };
            report.relative(&format!("grad.{name}"), &ours, theirs, GRADIENT);
        }
        Ok(())
    }
}

pub fn conv2d(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let case = Case::new(g, f)?;
    let padding = match case.sizes("padding")?[..] {
        [rows, cols] => [rows, rows, cols, cols],
        [top, bottom, left, right] => [top, bottom, left, right],
        _ => return Err(f.error("config `padding` are neither two nor four numbers")),
    };
    let (stride, groups) = (case.pair("stride")?, f.size("groups", 1)?);
    let dilation = if f.numbers("dilation").is_some() { case.pair("dilation")? } else { [1; 2] };
    case.check(report, |r, case| {
        let bias = case.find("bias");
        let options = Conv2dOptions { bias, stride, dilation, padding, groups, ..Conv2dOptions::default() };
        convolution(r, &case.x, case.param("weight")?, options)
    })
}

pub fn norm(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let case = Case::new(g, f)?;
    let (eps, momentum) = (f.number("eps", 1e-5)? as f32, f.number("momentum", 0.1)?);
    let buffer = |name: &str| {
        let array = f.get(&format!("buffer_before.{name}"))?;
        Tensor::from_slice(g, &array.shape, &array.f32())
    };
    let (mean, var) = (buffer("running_mean")?, buffer("running_var")?);
    let training = f.flag("training", true)?;
    case.check(report, |r, case| {
        let statistics = match training {
            true => BatchStatistics::Batch { running: Some([&mean, &var]), momentum },
            false => BatchStatistics::Given([&mean, &var]),
        };
        let options = BatchNormOptions { eps, ..BatchNormOptions::new(statistics) };
        batch_norm(r, &case.x, case.param("weight")?, case.param("bias")?, options)
    })?;
    for (name, buffer) in [("running_mean", &mean), ("running_var", &var)] {
        let after = f.find(&format!("buffer_after.{name}")).map(|theirs| (format!("buffer_after.{name}"), theirs));
        if let Some((name, theirs)) = after {
            report.relative(&name, &buffer.to_vec(g)?, theirs, OUTPUT);
        }
    }
    Ok(())
}

pub fn pool(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let case = Case::new(g, f)?;
    match f.config("op").as_str() {
        Some("max") => {
            let windows =
                Windows { kernel: case.pair("kernel")?, stride: case.pair("stride")?, padding: case.pair("padding")? };
            case.check(report, |r, case| max_pool(r, &case.x, windows))
        }
        Some("global_avg") => case.check(report, |r, case| global_average(r, &case.x)),
        other => Err(f.error(format!("config `op` is {other:?}, expected max or global_avg"))),
    }
}

pub fn squeeze_excite(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    Case::new(g, f)?.check(report, |r, case| {
        // a 1×1 convolution of a single pixel is a linear layer
        let linear = |r: &mut Recorder, x: &Var, name: &str| {
            let w = case.param(&format!("{name}.weight"))?;
            let outputs = w.data.shape().first().copied().unwrap_or(1);
            let w = reshape(r, w, &[outputs, w.data.len() / outputs.max(1)])?;
            let bias = Some(case.param(&format!("{name}.bias"))?);
            matmul(r, x, &w, MatmulOptions { bias, ..MatmulOptions::default() })
        };
        let mean = global_average(r, &case.x)?;
        let squeezed = linear(r, &mean, "conv_reduce")?;
        let squeezed = silu(r, &squeezed)?;
        let gate = linear(r, &squeezed, "conv_expand")?;
        channel_gate(r, &case.x, &gate)
    })
}

//! Fixtures without weights (`mode` "fill"): whole models at their true size. Every parameter, running statistic and
//! image follows from its name by rules in the file, and the outputs are those of the evaluation.

use super::compare::FixtureReport;
use super::fixture::Fixture;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::{Classifier, Config};
use crate::nn::{Init, Params, Weights};
use crate::ops::patchify;
use crate::ops::reduce::mean_tokens;
use crate::ops::reshape::reshape;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Relative error allowed on outputs: depth amplifies rounding.
pub(super) const DEEP: f64 = 1e-4;

/// One rule: how the values of the tensors are drawn whose names end with `ends`.
#[derive(Debug)]
struct Rule {
    ends: String,
    /// Axes that the tensor must have: 0 for any number, 2 for two or more.
    axes: u64,
    center: f64,
    spread: f64,
    /// Whether the spread is divided by the square root of the fan-in.
    by_fan: bool,
}

/// The rules of a file.
#[derive(Debug)]
pub(super) struct Fill {
    rules: Vec<Rule>,
}

impl Fill {
    /// The rules in `config.fill`: [ends, axes, center, spread, fan] each.
    pub(super) fn of(f: &Fixture) -> Result<Self> {
        let wrong = || f.error("config `fill` is no list of [ends, axes, center, spread, fan]");
        let rule = |row: &serde_json::Value| {
            let number = |i: usize| row.get(i)?.as_f64();
            Some(Rule {
                ends: row.get(0)?.as_str()?.to_owned(),
                axes: row.get(1)?.as_u64()?,
                center: number(2)?,
                spread: number(3)?,
                by_fan: number(4)? != 0.0,
            })
        };
        let rows = f.config("fill").as_array().ok_or_else(wrong)?;
        Ok(Self { rules: rows.iter().map(rule).collect::<Option<_>>().ok_or_else(wrong)? })
    }

    /// The values of the tensor `name`.
    pub(super) fn values(&self, f: &Fixture, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let fits = |rule: &&Rule| {
            let axes = shape.len() as u64;
            name.ends_with(&rule.ends) && (rule.axes == 0 || axes == rule.axes || (rule.axes == 2 && axes > 2))
        };
        let missing = || f.error(format!("no rule of config `fill` is for `{name}` {shape:?}"));
        let rule = self.rules.iter().find(fits).ok_or_else(missing)?;
        let fan = shape.iter().skip(1).product::<usize>().max(1) as f64;
        let spread = rule.spread * if rule.by_fan { fan.sqrt().recip() } else { 1.0 };
        let seed = name.bytes().fold(2_166_136_261u32, |h, byte| (h ^ u32::from(byte)).wrapping_mul(16_777_619));
        let value = |k: usize| (rule.center + spread * (2.0 * unit(k as u32, seed) - 1.0)) as f32;
        Ok((0..shape.iter().product()).map(value).collect())
    }

    /// Values for all parameters and buffers. The first ones of some tensors are in the file, to check the rule itself.
    pub(super) fn weights(&self, f: &Fixture, report: &mut FixtureReport, params: &Params) -> Result<Weights> {
        let mut weights = Weights::new();
        for entry in params.tensors() {
            let values = match entry.init {
                Init::SinCos { .. } => entry.init.values(&entry.name, &entry.shape, 0), // fixed positions
                _ => self.values(f, &entry.name, &entry.shape)?,
            };
            if let Some(first) = f.find(&format!("fill.{}", entry.name)) {
                let count = first.values.len().min(values.len());
                report.relative(&format!("fill.{}", entry.name), &values[..count], first, 1e-7);
            }
            weights.insert(entry.name.clone(), (entry.shape.clone(), values));
        }
        Ok(weights)
    }

    /// The images (B, 3, H, W).
    pub(super) fn images(&self, f: &Fixture, g: &Gpu, config: &Config) -> Result<Tensor> {
        let width = config.image_width.unwrap_or(config.image_size);
        let shape = [f.size("batch", 1)?, 3, config.image_size, width];
        Tensor::from_slice(g, &shape, &self.values(f, "input.images", &shape)?)
    }
}

/// A number in [0, 1) from the place of an element and the hash of its tensor's name.
fn unit(k: u32, seed: u32) -> f64 {
    let mut x = k.wrapping_mul(0x9E37_79B9).wrapping_add(seed);
    x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
    x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
    x ^= x >> 16;
    f64::from(x >> 8) * 2f64.powi(-24)
}

/// Whether a file has rules in place of weights.
pub fn is_filled(f: &Fixture) -> bool {
    f.config("fill").is_array()
}

/// Features, scores and the means of the stages' maps of a classifier in evaluation.
pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport, config: &Config) -> Result<()> {
    let fill = Fill::of(f)?;
    let mut params = Params::new(g);
    let model = Classifier::new(g, &mut params, config)?;
    params.load(g, &fill.weights(f, report, &params)?)?;
    let images = fill.images(f, g, config)?;
    let mut r = Recorder::inference(g);
    let patches = Var::constant(patchify::from_nchw(&mut r, &images, config.input_patch())?);
    let out = model.forward(&mut r, &patches, None)?;
    let mut means = Vec::new();
    for output in model.backbone.outputs(&mut r, &patches, None)? {
        let (shape, (rows, c)) = (output.data.shape(), output.data.rows_cols());
        let b = shape.first().copied().unwrap_or(1).max(1);
        let cells = reshape(&mut r, &output, &[b, rows / b, c])?;
        means.push(mean_tokens(&mut r, &cells)?);
    }
    r.run()?;
    // `layers.10.mean` has the mean of the tenth stage or layer; some files count from one
    let number = |name: &str| name.split(|c: char| !c.is_ascii_digit()).find_map(|digits| digits.parse::<usize>().ok());
    let stages = f.with_prefix("act.").filter(|(name, _)| name.ends_with(".mean") && !name.starts_with("stem"));
    let mut stages: Vec<_> = stages.filter_map(|(name, theirs)| Some((number(name)?, name, theirs))).collect();
    stages.sort_by_key(|(number, ..)| *number);
    let first = usize::from(stages.iter().all(|(number, ..)| *number > 0) && stages.len() == means.len());
    for (number, name, theirs) in stages {
        let missing = || f.error(format!("`act.{name}` is of no stage or layer of the {} there are", means.len()));
        let ours = number.checked_sub(first).and_then(|at| means.get(at)).ok_or_else(missing)?;
        report.relative(&format!("act.{name}"), &ours.data.to_vec(g)?, theirs, DEEP);
    }
    for (name, ours) in [("output.features", &out.features), ("output.logits", &out.logits)] {
        report.relative(name, &ours.data.to_vec(g)?, f.get(name)?, DEEP);
    }
    Ok(())
}

//! Kind `dense_schedule`: rates and decays of the recipes for dense tasks.

use serde_json::Value;

use super::compare::{FixtureReport, OUTPUT};
use super::fixture::Fixture;
use crate::error::Result;
use crate::train::dense_recipes::{DetectionRecipe, ParameterRule, SegmentationRecipe};

pub fn check(f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let of = |task: &str, key: &str| {
        f.config(task)[key].as_f64().ok_or_else(|| f.error(format!("config `{task}.{key}` is no number")))
    };
    if f.find("input.seg.iteration").is_some() {
        let number = |key: &str| of("seg", key);
        let recipe = SegmentationRecipe {
            rate: number("lr")?,
            steps: number("iters")? as u64,
            warmup: number("warmup")? as u64,
            warmup_ratio: number("warmup_ratio")?,
            decay: number("wd")?,
            layer_decay: number("layer_decay")?,
            layers: number("layers")? as u32,
        };
        let axes = f.numbers("seg_ndim").unwrap_or_default();
        let names = names(f, "seg_names")?;
        if axes.len() != names.len() {
            return Err(f.error("config `seg_ndim` has not as many numbers as `seg_names` has names"));
        }
        let rules = names.iter().zip(axes).map(|(name, axes)| recipe.of(name, axes as usize)).collect();
        compare(f, report, "seg", |step| recipe.rate_at(step), rules)?;
    }
    if f.find("input.det.iteration").is_some() {
        let number = |key: &str| of("det", key);
        let marks = f.config("det")["marks"].as_array().and_then(|marks| match &marks[..] {
            [first, second] => Some([first.as_u64()?, second.as_u64()?]),
            _ => None,
        });
        let recipe = DetectionRecipe {
            rate: number("lr")?,
            steps: number("iters")? as u64,
            marks: marks.ok_or_else(|| f.error("config `det.marks` are not two steps"))?,
            warmup: number("warm")? as u64,
            warmup_ratio: number("factor")?,
            decay: number("wd")?,
            layer_decay: number("layer_decay")?,
            layers: number("layers")? as u32,
        };
        let rules = names(f, "det_names")?.iter().map(|name| recipe.of(name)).collect();
        compare(f, report, "det", |step| recipe.rate_at(step), rules)?;
    }
    Ok(())
}

fn names(f: &Fixture, key: &str) -> Result<Vec<String>> {
    let names = f.config(key).as_array().map(|names| names.iter().map(Value::as_str));
    let names = names.and_then(|names| names.map(|name| name.map(String::from)).collect::<Option<Vec<_>>>());
    names.ok_or_else(|| f.error(format!("config `{key}` is no list of names")))
}

fn compare(
    f: &Fixture, report: &mut FixtureReport, task: &str, rate: impl Fn(u64) -> f64, rules: Vec<ParameterRule>,
) -> Result<()> {
    let steps = &f.get(&format!("input.{task}.iteration"))?.values;
    let found: [(&str, Vec<f64>); 3] = [
        ("lr", steps.iter().map(|step| rate(*step as u64)).collect()),
        ("lr_scale", rules.iter().map(|rule| rule.rate).collect()),
        ("weight_decay", rules.iter().map(|rule| rule.decay).collect()),
    ];
    for (what, ours) in found {
        let name = format!("output.{task}.{what}");
        let Some(theirs) = f.find(&name) else { continue };
        // rates span six orders of magnitude: each is compared by itself too
        let ours32: Vec<f32> = ours.iter().map(|v| *v as f32).collect();
        report.relative(&name, &ours32, theirs, OUTPUT);
        let largest = ours.iter().zip(&theirs.values).map(|(a, b)| (a - b).abs() / b.abs().max(f64::MIN_POSITIVE));
        let worst = largest.zip(&theirs.values).filter(|(_, theirs)| **theirs != 0.0).map(|(error, _)| error);
        report.absolute(&format!("{name} of each"), worst.fold(0.0, f64::max), 0.0, OUTPUT);
    }
    Ok(())
}

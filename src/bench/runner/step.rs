//! The family `step`: a MAP pretraining step of HybridNet, at 224 pixels, with half of the patches hidden and without
//! DropPath. It is timed twice: the forward pass alone, including what it saves for the backward pass, and the whole
//! step with backward pass and AdamW.
//!
//! The host's clock times it, because the time between launches is part of a step. Its values are not compared here,
//! except that the loss must be finite: `rowscan check` compares them with PyTorch.

use serde_json::json;

use super::clock::Clock;
use super::report::{BenchRow, Outcome};
use crate::bench::case::Direction;
use crate::bench::selection::Scope;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Phase, Precision, Program};
use crate::models::Config;
use crate::train::pretrain::settings::PretrainSettings;
use crate::train::pretrain::step::Pretrainer;
use crate::train::settings::RunSettings;

/// Name of this family for `--family`.
pub const FAMILY: &str = "step";

/// The rows of each model size and batch size of the scope. A `quick` scope without sizes uses `micro`, our smallest
/// model.
pub fn rows(g: &Gpu, scope: &Scope) -> Result<Vec<BenchRow>> {
    let usual = if scope.quick { &["micro"][..] } else { &["tiny", "small", "base", "large"] };
    let sizes: Vec<&str> =
        if scope.sizes.is_empty() { usual.to_vec() } else { scope.sizes.iter().map(String::as_str).collect() };
    let mut rows = Vec::new();
    for size in sizes {
        for batch in scope.batches() {
            rows.extend(step(g, size, batch, scope.precision)?);
        }
    }
    Ok(rows)
}

fn step(g: &Gpu, size: &str, batch: usize, precision: Precision) -> Result<Vec<BenchRow>> {
    let config = Config { drop_path: 0.0, ..Config::preset(size)? };
    let run = RunSettings { precision, ..RunSettings::default() };
    let settings = PretrainSettings { run, mask_ratio: Some(0.5), ..PretrainSettings::default() };
    let mask = settings.masker(&config)?.draw(0, batch);
    let mut facts = serde_json::Map::from_iter([("images".into(), json!(batch)), ("size".into(), json!(size))]);
    let mut times = || -> Result<_> {
        let mut trainer = Pretrainer::new(g, &config, &settings.objective, batch, settings.run.hyper()?, 0)?;
        let pixels = batch * config.sample_bytes();
        let images: Vec<u8> = (0..pixels).map(|i| ((i * 2_654_435_761) >> 7) as u8).collect();
        let loss = trainer.step(&images, &mask, 0, 1e-4)?.to_vec(g)?[0];
        if !loss.is_finite() {
            return Err(Error::Mismatch(format!(
                "{size}, batch {batch}: the loss is {loss}, expected a finite number"
            )));
        }
        facts.insert("loss".into(), json!(loss));
        let mut times = Vec::new();
        for direction in [Direction::Forward, Direction::Training] {
            let (mut recording, _kept) = trainer.record(mask.visible_len)?;
            if direction == Direction::Forward {
                recording.keep(Phase::Forward);
            }
            let work = recording.work();
            let program = Program::new(recording)?;
            facts.insert("peak_bytes".into(), json!(program.plan().total()));
            times.push((direction, work, Clock { wall: true }.sample(g, &[&program])?));
        }
        Ok(times)
    };
    let outcome = times();
    let row = |direction, floor, outcome| BenchRow {
        family: FAMILY,
        direction,
        case: format!("{size} {}x{batch}", mask.visible_len),
        checked: "rowscan check".into(),
        floor,
        outcome,
        facts: facts.clone(),
    };
    match outcome {
        Ok(times) => Ok(times.into_iter().map(|(d, work, seconds)| row(d, work, Outcome::Timed(seconds))).collect()),
        Err(lost @ Error::DeviceLost(_)) => Err(lost),
        Err(e) => Ok(vec![row(Direction::Training, Default::default(), Outcome::of(&e))]),
    }
}

//! Helpers for the kinds that run whole models.

use serde_json::Value;

use super::compare::{FixtureReport, GRADIENT, OUTPUT};
use super::fixture::Fixture;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::Config;
use crate::nn::{Directions, Params, Weights};
use crate::tape::{Grads, Var};
use crate::tensor::Tensor;

/// The parameters of the file and the running statistics before the step, under the file's names.
pub fn weights(f: &Fixture) -> Weights {
    let found = f.with_prefix("param.").chain(f.with_prefix("buffer_before."));
    found.map(|(name, array)| (name.to_string(), (array.shape.clone(), array.f32()))).collect()
}

/// Size of an axis of a tensor, if the file has the tensor.
pub fn axis(f: &Fixture, name: &str, axis: usize) -> Option<usize> {
    f.find(name).and_then(|array| array.shape.get(axis).copied())
}

/// How two scan directions are combined for a value of the official argument `if_divide_out`: averaged or added.
pub fn directions(divide_out: bool) -> Directions {
    if divide_out { Directions::Mean } else { Directions::Sum }
}

/// Number of layers: i = 0, 1, … as long as the file has `param.{prefix}{i}.{suffix}`.
pub fn count(f: &Fixture, prefix: &str, suffix: &str) -> usize {
    (0..).take_while(|i| f.find(&format!("param.{prefix}{i}.{suffix}")).is_some()).count()
}

/// DropPath's factors, keep / (1 − p), from the 0/1 draws of the file, and behind them those of dropout. The shape is
/// (rows, draws padded to a multiple of 64). A place without draws in the file drops nothing. `None` if the file has no
/// draws.
pub fn drop_path(g: &Gpu, f: &Fixture, b: usize, config: &Config) -> Result<Option<Tensor>> {
    let dropout = f.find("dropout.keep").filter(|_| config.dropout > 0.0);
    if f.with_prefix("drop_path.").next().is_none() && dropout.is_none() {
        return Ok(None);
    }
    let places = config.drop_path_places();
    let stride = (b * config.drop_path_draws()).next_multiple_of(64);
    let count = config.drop_path_rates().len();
    let mut rows = vec![1.0f32; count * stride];
    for (slot, keep) in rows[places.len() * stride..].iter_mut().zip(dropout.iter().flat_map(|keep| &keep.values)) {
        *slot = (keep / (1.0 - config.dropout)) as f32;
    }
    for (i, (place, rate)) in places.iter().enumerate() {
        let Some(draws) = f.find(&format!("drop_path.{place}.keep")) else { continue };
        let given = f.config("drop_prob");
        let p = [given.get(place), given.get(i), Some(given)].into_iter().flatten().find_map(Value::as_f64);
        for (slot, keep) in rows[i * stride..].iter_mut().zip(&draws.values) {
            *slot = (keep / (1.0 - p.unwrap_or(*rate))) as f32;
        }
    }
    Tensor::from_slice(g, &[count, stride], &rows).map(Some)
}

/// Compares an output if the file has it.
pub fn output(g: &Gpu, f: &Fixture, report: &mut FixtureReport, name: &str, ours: &Var) -> Result<()> {
    if let Some(theirs) = f.find(name) {
        report.relative(name, &ours.data.to_vec(g)?, theirs, OUTPUT);
    }
    Ok(())
}

/// Compares a loss if the file has it.
pub fn loss(g: &Gpu, f: &Fixture, report: &mut FixtureReport, name: &str, ours: &Var) -> Result<()> {
    if let Some(theirs) = f.find(name) {
        let theirs = theirs.values.first().copied().unwrap_or(f64::NAN);
        let ours = f64::from(ours.data.to_vec(g)?.first().copied().unwrap_or(f32::NAN));
        report.absolute(name, ours, theirs, 2e-6 * theirs.abs().max(1.0));
    }
    Ok(())
}

/// Compares every gradient of the file. `ours` maps the file's name of a parameter to our name and, if the file splits
/// our qkv into three tensors, to the third (0, 1 or 2) that it holds. Gradients of inputs, `grad.input.…`, are left to
/// the caller.
///
/// # Errors
/// If a gradient belongs to no parameter, or a parameter that should have none has one.
pub fn gradients(
    g: &Gpu, f: &Fixture, report: &mut FixtureReport, params: &Params, grads: &Grads,
    ours: impl Fn(&str) -> (String, Option<usize>),
) -> Result<()> {
    let found = pollster::block_on(params.gradients(g))?;
    for (name, theirs) in f.with_prefix("grad.").filter(|(name, _)| !name.starts_with("input.")) {
        let (here, third) = ours(name);
        let Some((_, values)) = found.get(&here) else {
            return Err(f.error(format!("`grad.{name}` belongs to no parameter")));
        };
        let each = values.len() / if third.is_some() { 3 } else { 1 };
        let values = &values[third.unwrap_or(0) * each..][..each];
        let row = format!("grad.{name}");
        if f.is_zero(name) {
            report.zero(&row, values, &theirs.shape);
        } else {
            report.relative(&row, values, theirs, GRADIENT);
        }
    }
    for name in f.unused() {
        if params.has_gradient(&ours(name).0, grads) {
            return Err(f.error(format!("`{name}` has a gradient, expected none, as `unused_parameters` lists it")));
        }
    }
    Ok(())
}

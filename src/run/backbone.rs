//! Weights that a run starts from: those of a checkpoint, and of it the backbone of a network for a dense task.

use std::path::{Path, PathBuf};

use super::checkpoint::{self, Which};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{Config, Purpose, adapt, backbone};
use crate::nn::{Params, Weights};
use crate::run::weights_on_disk::read;

/// The file and the weights of the checkpoint `folder`. Of a `best` these are the weights that won.
///
/// # Errors
/// A folder that is no checkpoint.
pub fn weights_of(folder: &Path) -> Result<(PathBuf, Weights)> {
    checkpoint::config(folder)?;
    let (path, average) = checkpoint::chosen(folder, Which::Best)?;
    if average {
        tracing::warn!("{}: the moving average of the weights, which won the best test", path.display());
    }
    let weights = read(&path)?;
    Ok((path, weights))
}

/// Loads the backbone of the checkpoint `folder` into `params`, the weights of the network `config`: adapted to its
/// grid, without what the checkpoint has besides. Heads keep their initial values.
///
/// # Errors
/// A folder that is no checkpoint, one of another backbone.
pub fn load_backbone(g: &Gpu, folder: &Path, config: &Config, params: &Params, seed: u64) -> Result<()> {
    if config.dense.is_none() {
        return Err(Error::argument("dense", "none", "a dense task"));
    }
    let found = checkpoint::config(folder)?;
    let (path, mut weights) = weights_of(folder)?;
    if found.dense.is_some() {
        // another network for a dense task: its backbone alone
        let own = |(k, v): (String, _)| Some((k.strip_prefix(found.backbone_prefix())?.to_string(), v));
        weights = weights.into_iter().filter_map(own).collect();
    }
    without_prefix_rows(&mut weights, &found);
    // the backbone alone has the names of its family
    let dry = Gpu::dry(g.caps().clone());
    let mut alone = Params::new(&dry);
    backbone(&dry, &mut alone, config, Purpose::Pretraining)?;
    // where stages are read, a network ends before the norm behind its last one
    if config.hierarchy.is_some() && !alone.tensors().any(|entry| entry.name.starts_with("norm.")) {
        weights.retain(|name, _| !name.starts_with("norm."));
    }
    let adapted = adapt(weights, config, &alone, seed).map_err(|e| Error::file(&path, e))?;
    tracing::warn!("{}: {adapted}", path.display()); // nothing is left out or drawn anew without a word
    let mut all: Weights = pollster::block_on(params.weights(g))?;
    all.extend(
        adapted.weights.into_iter().map(|(name, tensor)| (format!("{}{name}", config.backbone_prefix()), tensor)),
    );
    params.load(g, &all)
}

/// Takes the rows of class tokens out of the position table of a checkpoint, where they are in it.
fn without_prefix_rows(weights: &mut Weights, config: &Config) {
    let (count, d) = (config.registers, config.width);
    if count == 0 || config.family.separate_positions {
        return;
    }
    let Some((shape, values)) = weights.get_mut("pos_embed") else { return };
    let rows = values.len() / d.max(1);
    // ARM's pretraining has no class token yet
    if rows == config.tokens() + count && shape.len() == 3 {
        let first = (config.family.places)(rows - count, count).first;
        values.drain(first * d..(first + count) * d);
        shape[1] = rows - count;
    }
}

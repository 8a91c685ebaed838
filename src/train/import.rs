//! Weights trained elsewhere: a safetensors file of official names becomes a checkpoint folder's content.

use std::path::Path;

use super::weights_file::read;
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu};
use crate::models::{Config, Map};
use crate::nn::{Params, Weights};

/// Reads the weights of `config`, in f32, f16 or bf16. Two sizes that no preset fixes are taken from the file: the MLP
/// ratio of the transformer blocks (published checkpoints have 1, 2 and 4) and the number of classes.
///
/// # Errors
/// When a tensor is missing, unknown, or of another shape than the model's: every tensor is used.
pub fn import(path: &Path, mut config: Config) -> Result<(Config, Weights)> {
    let weights = read(path)?;
    let rows = |name: &str| weights.get(name).and_then(|(shape, _)| shape.first().copied());
    if let Some(hidden) = rows("blocks.0.mlp.fc1.weight") {
        config.mlp_ratio = hidden as f64 / config.width as f64;
    }
    config.classes = rows("head.weight").unwrap_or(0);
    config.validate().map_err(|e| Error::file(path, e))?;
    let dry = Gpu::dry(Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() });
    let mut params = Params::new(&dry);
    Map::new(&dry, &mut params, &config)?;
    params.expect_names(&weights).map_err(|e| Error::file(path, format!("does not fit {}: {e}", config.name)))?;
    Ok((config, weights))
}

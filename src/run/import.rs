//! Weights trained elsewhere: a safetensors file with the official tensor names becomes a configuration and weights.

use std::path::Path;

use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu};
use crate::models::contents;
use crate::models::{Classifier, Config, Contents, Decoder, DecoderKind, Mae, Map, Positions, from_transformers};
use crate::nn::{Params, Weights};
use crate::run::weights_on_disk::read;

/// Reads weights for the model `config` from a file in f32, f16 or bf16. It may hold a classifier, an encoder alone, or
/// an encoder with its decoder, under the names of MAP, Mamba-R, Vim, timm, MAE or the transformers library. Sizes that
/// no preset fixes are read off the tensors' shapes.
///
/// # Errors
/// A tensor that is missing, unknown, or of another shape than the model's: every tensor has to be used.
pub fn import(path: &Path, config: Config) -> Result<(Config, Weights)> {
    let weights = read(path).and_then(|weights| from_transformers(weights).map_err(|e| Error::file(path, e)))?;
    let found = contents(&weights);
    let config = detect(&weights, found, config);
    config.validate().map_err(|e| Error::file(path, e))?;
    let dry = Gpu::dry(Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() });
    let mut params = Params::new(&dry);
    match found {
        Contents::Map => drop(Map::new(&dry, &mut params, &config)?),
        Contents::Mae => drop(Mae::new(&dry, &mut params, &config)?),
        Contents::Classifier | Contents::Encoder => drop(Classifier::new(&dry, &mut params, &config)?),
    }
    params.expect_names(&weights).map_err(|e| Error::file(path, format!("does not fit {}: {e}", config.name)))?;
    Ok((config, weights))
}

/// `config` with the sizes that the shapes of the file's tensors show: number of classes; MLP ratio of transformer
/// blocks (published checkpoints have 1, 2 and 4); biases of q, k and v; the patch grid; a ViT's class token and
/// pooling; the decoder.
fn detect(weights: &Weights, found: Contents, mut config: Config) -> Config {
    let size = |name: &str, axis: usize| weights.get(name).and_then(|(shape, _)| shape.get(axis).copied());
    let has = |name: &str| weights.contains_key(name);
    if let Some(hidden) = size("blocks.0.mlp.fc1.weight", 0) {
        config.mlp_ratio = hidden as f64 / config.width as f64;
        config.qkv_bias = has("blocks.0.attn.qkv.bias");
    }
    config.classes = size("head.weight", 0).unwrap_or(0);
    (config.family.detect)(&mut config, &has);
    let class = if config.family.separate_positions { 0 } else { config.registers };
    if let Some(patches) = size("pos_embed", 1).and_then(|rows| rows.checked_sub(class))
        && patches.isqrt().pow(2) == patches
    {
        config.image_size = patches.isqrt() * config.patch_size;
    }
    let blocks =
        |norm: &str| (0..).take_while(|i| has(&format!("decoder_blocks.{i}.{norm}.weight"))).count().min(1 << 16);
    let (kind, depth) = match found {
        Contents::Mae => (DecoderKind::Mae, blocks("norm1")),
        Contents::Map => (DecoderKind::Map, blocks("norm2_1")),
        Contents::Classifier | Contents::Encoder => return config,
    };
    if kind == DecoderKind::Mae {
        config.positions = Positions::SinCos;
    }
    if kind != config.decoder.kind {
        config.decoder = if kind == DecoderKind::Mae { Decoder::mae() } else { Decoder::map() };
    }
    let width = size("decoder_embed.weight", 0).unwrap_or(config.decoder.width);
    let hidden = size("decoder_blocks.0.mlp.fc1.weight", 0);
    let mlp_ratio = hidden.map_or(config.decoder.mlp_ratio, |hidden| hidden as f64 / width.max(1) as f64);
    config.decoder = Decoder { width, depth, mlp_ratio, ..config.decoder };
    config
}

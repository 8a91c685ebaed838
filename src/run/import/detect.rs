//! What the tensors of a file show about its model, and whether options contradict it.

use std::path::Path;

use crate::error::{Error, Result};
use crate::models::{Config, Contents, Decoder, DecoderKind, Positions};
use crate::nn::Weights;

/// `config` with the sizes that the shapes of the file's tensors show: number of classes; MLP ratio of transformer
/// blocks (published checkpoints have 1, 2 and 4); biases of q, k and v; the patch grid; a ViT's class token and
/// pooling; the decoder.
pub(super) fn detect(weights: &Weights, found: Contents, mut config: Config) -> Config {
    let size = |name: &str, axis: usize| weights.get(name).and_then(|(shape, _)| shape.get(axis).copied());
    let has = |name: &str| weights.contains_key(name);
    if let Some(hidden) = size("blocks.0.mlp.fc1.weight", 0) {
        config.mlp_ratio = hidden as f64 / config.width.max(1) as f64;
        config.qkv_bias = has("blocks.0.attn.qkv.bias");
    }
    config.classes = size(&format!("{}.weight", config.family.head), 0).unwrap_or(0);
    (config.family.detect)(&mut config, &has);
    let class = if config.family.separate_positions { 0 } else { config.registers };
    // ARM has no class token before it is fine-tuned
    let class = if found == Contents::Arm { 0 } else { class };
    if let Some(patches) = size("pos_embed", 1).and_then(|rows| rows.checked_sub(class))
        && patches.isqrt().pow(2) == patches
    {
        config.image_size = patches.isqrt().saturating_mul(config.patch_size);
    }
    let blocks =
        |norm: &str| (0..).take_while(|i| has(&format!("decoder_blocks.{i}.{norm}.weight"))).count().min(1 << 16);
    if found == Contents::Arm {
        let width = size("dec_pos_embed", 2).unwrap_or(config.decoder.width);
        let depth = (0..).take_while(|i| has(&format!("dec_block.{i}.norm2.weight"))).count().min(1 << 16);
        let hidden = size("dec_block.0.mlp.fc1.weight", 0);
        let mlp_ratio = hidden.map_or(config.decoder.mlp_ratio, |hidden| hidden as f64 / width.max(1) as f64);
        config.decoder = Decoder { width, depth, mlp_ratio, ..config.decoder };
        return config;
    }
    let (kind, depth) = match found {
        Contents::Mae => (DecoderKind::Mae, blocks("norm1")),
        Contents::Map | Contents::Diffusion => (DecoderKind::Map, blocks("norm2_1")),
        Contents::Classifier | Contents::Encoder | Contents::Contrastive | Contents::Arm | Contents::Points => {
            return config;
        }
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

/// Refuses an option that is not what the tensors show.
pub(super) fn expect_shown(path: &Path, shown: &Config, asked: &Config) -> Result<()> {
    let differ = |what: &'static str, got: String, has: String, why: &str| match got == has {
        true => Ok(()),
        false => Err(Error::argument(what, got, format!("{has}, as the tensors of {} show{why}", path.display()))),
    };
    let pixels = ": fine-tuning and probes resize position embeddings";
    differ("image_size", asked.image_size.to_string(), shown.image_size.to_string(), pixels)?;
    let head = if shown.classes == 0 { ": they have no head, which fine-tuning adds" } else { "" };
    differ("classes", asked.classes.to_string(), shown.classes.to_string(), head)?;
    differ("mlp_ratio", asked.mlp_ratio.to_string(), shown.mlp_ratio.to_string(), "")?;
    if shown.pool != asked.pool {
        let norm = "a ViT that averages has `fc_norm` in place of `norm`";
        differ("pool", format!("{:?}", asked.pool), format!("{:?}", shown.pool), &format!(" ({norm})"))?;
    }
    let (has, got) = (&shown.decoder, &asked.decoder);
    differ("decoder", format!("{:?}", got.kind), format!("{:?}", has.kind), "")?;
    differ("decoder.width", got.width.to_string(), has.width.to_string(), "")?;
    differ("decoder.depth", got.depth.to_string(), has.depth.to_string(), "")
}

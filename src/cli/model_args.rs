//! The arguments that describe a model.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::models::{Config, Decoder, DecoderKind};

/// Preset and what to change in it.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ModelArgs {
    /// A model by name, as map_tiny_patch16_224 or tiny for short; `rowscan info --models` lists them.
    #[arg(long)]
    pub model: Option<String>,
    /// Side of the square input in pixels.
    #[arg(long)]
    pub image_size: Option<usize>,
    /// Side of a patch in pixels.
    #[arg(long)]
    pub patch_size: Option<usize>,
    /// Width of the encoder.
    #[arg(long)]
    pub width: Option<usize>,
    /// Layers in order, M for Mamba and T for transformer: MMMTMMMT.
    #[arg(long)]
    pub pattern: Option<String>,
    /// Heads of the transformer blocks.
    #[arg(long)]
    pub heads: Option<usize>,
    /// MLP width of the transformer blocks over the model's width.
    #[arg(long)]
    pub mlp_ratio: Option<f64>,
    /// States per channel of the Mamba layers.
    #[arg(long)]
    pub states: Option<usize>,
    /// Classes of the head.
    #[arg(long)]
    pub classes: Option<usize>,
    /// Decoder: map, or mae on a ViT.
    #[arg(long, value_parser = ["map", "mae"])]
    pub decoder: Option<String>,
    /// Width of the decoder.
    #[arg(long)]
    pub decoder_width: Option<usize>,
    /// Blocks of the decoder.
    #[arg(long)]
    pub decoder_depth: Option<usize>,
    /// Heads of the decoder.
    #[arg(long)]
    pub decoder_heads: Option<usize>,
    /// hidden + T(hidden) as in the MAP repository, or T(hidden) alone.
    #[arg(long)]
    pub extra_residual: Option<bool>,
    /// Scan order of the tokens.
    #[arg(long, value_parser = ["rows", "columns"])]
    pub order: Option<String>,
    /// Position embeddings: trained, or fixed sines and cosines.
    #[arg(long, value_parser = ["learned", "sin-cos"])]
    pub positions: Option<String>,
    /// What the classifier reads: registers, the class token, or the average of the patches.
    #[arg(long, value_parser = ["registers", "token", "average"])]
    pub pool: Option<String>,
    /// DropPath probability at the last layer.
    #[arg(long)]
    pub drop_path: Option<f64>,
    /// Initial values: mamba or map-repo.
    #[arg(long, value_parser = ["mamba", "map-repo"])]
    pub init: Option<String>,
}

impl ModelArgs {
    /// The preset with the changes, checked.
    pub fn resolve(&self) -> Result<Config> {
        self.over(Config::preset(self.model.as_deref().unwrap_or("micro"))?)
    }

    /// The changes over `base`, or over the preset if another one is named; checked.
    pub fn over(&self, base: Config) -> Result<Config> {
        fn set<T: Clone>(to: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                to.clone_from(value);
            }
        }
        let mut config = match self.model.as_deref() {
            Some(name) if name != base.name => Config::preset(name)?,
            _ => base,
        };
        set(&mut config.image_size, &self.image_size);
        set(&mut config.patch_size, &self.patch_size);
        set(&mut config.width, &self.width);
        set(&mut config.pattern, &self.pattern);
        set(&mut config.heads, &self.heads);
        set(&mut config.mlp_ratio, &self.mlp_ratio);
        set(&mut config.states, &self.states);
        set(&mut config.classes, &self.classes);
        let mut kind = config.decoder.kind;
        choose(&mut kind, "decoder", &self.decoder)?;
        config.decoder = other_decoder(config.decoder, kind);
        set(&mut config.decoder.width, &self.decoder_width);
        set(&mut config.decoder.depth, &self.decoder_depth);
        set(&mut config.decoder.heads, &self.decoder_heads);
        set(&mut config.extra_residual, &self.extra_residual);
        set(&mut config.drop_path, &self.drop_path);
        choose(&mut config.order, "order", &self.order)?;
        choose(&mut config.positions, "positions", &self.positions)?;
        choose(&mut config.pool, "pool", &self.pool)?;
        choose(&mut config.init, "init", &self.init)?;
        config.validate()?;
        Ok(config)
    }

    /// Every argument, as `config` has it.
    pub fn of(config: &Config) -> Self {
        let c = config.clone();
        Self {
            model: Some(c.name),
            image_size: Some(c.image_size),
            patch_size: Some(c.patch_size),
            width: Some(c.width),
            pattern: Some(c.pattern),
            heads: Some(c.heads),
            mlp_ratio: Some(c.mlp_ratio),
            states: Some(c.states),
            classes: Some(c.classes),
            decoder: chosen(c.decoder.kind),
            decoder_width: Some(c.decoder.width),
            decoder_depth: Some(c.decoder.depth),
            decoder_heads: Some(c.decoder.heads),
            extra_residual: Some(c.extra_residual),
            order: chosen(c.order),
            positions: chosen(c.positions),
            pool: chosen(c.pool),
            drop_path: Some(c.drop_path),
            init: chosen(c.init),
        }
    }
}

/// A variant by its name in configuration files, with hyphens.
fn choose<T: DeserializeOwned>(to: &mut T, what: &str, name: &Option<String>) -> Result<()> {
    if let Some(name) = name {
        let value = serde_json::Value::String(name.replace('-', "_"));
        *to = serde_json::from_value(value).map_err(|e| Error::argument(what.to_owned(), format!("`{name}`"), e))?;
    }
    Ok(())
}

/// The name that [`choose`] takes.
fn chosen<T: Serialize>(value: T) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(|name| name.replace('_', "-"))
}

/// A decoder of another kind: of that kind's own size, unless the model has one of a special size.
fn other_decoder(decoder: Decoder, kind: DecoderKind) -> Decoder {
    match (kind, decoder == Decoder::map(), decoder == Decoder::mae()) {
        (DecoderKind::Mae, true, _) => Decoder::mae(),
        (DecoderKind::Map, _, true) => Decoder::map(),
        _ => Decoder { kind, ..decoder },
    }
}

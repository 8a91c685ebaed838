//! The arguments that describe a model.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::models::{Config, InitScheme};

/// Preset and what to change in it.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ModelArgs {
    /// micro, tiny, small, base, large or huge.
    #[arg(long)]
    pub model: Option<String>,
    /// Side of the square input in pixels.
    #[arg(long)]
    pub image_size: Option<usize>,
    /// Side of a patch in pixels.
    #[arg(long)]
    pub patch_size: Option<usize>,
    /// Layers in order, M for Mamba and T for transformer: MMMTMMMT.
    #[arg(long)]
    pub pattern: Option<String>,
    /// MLP width of the transformer blocks over the model's width.
    #[arg(long)]
    pub mlp_ratio: Option<f64>,
    /// hidden + T(hidden) as in the MAP repository, or T(hidden) alone.
    #[arg(long)]
    pub extra_residual: Option<bool>,
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
        let mut config = Config::preset(self.model.as_deref().unwrap_or("micro"))?;
        config.image_size = self.image_size.unwrap_or(config.image_size);
        config.patch_size = self.patch_size.unwrap_or(config.patch_size);
        config.pattern = self.pattern.clone().unwrap_or(config.pattern);
        config.mlp_ratio = self.mlp_ratio.unwrap_or(config.mlp_ratio);
        config.extra_residual = self.extra_residual.unwrap_or(config.extra_residual);
        config.drop_path = self.drop_path.unwrap_or(config.drop_path);
        config.init = match self.init.as_deref() {
            None => config.init,
            Some("mamba") => InitScheme::Mamba,
            Some("map-repo") => InitScheme::MapRepo,
            Some(other) => return Err(Error::argument("init", format!("`{other}`"), "mamba or map-repo")),
        };
        config.validate()?;
        Ok(config)
    }
}

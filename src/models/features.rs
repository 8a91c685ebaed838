//! What the heads of dense tasks read of a backbone.

use super::backbones::Backbone;
use super::config::Config;
use crate::error::{Error, Result};
use crate::nn::{LayerNorm, Params};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Four depths of a backbone on tokens, or four maps of strides 4 to 32 of one on maps.
#[derive(Debug, Clone)]
pub(super) enum Features {
    Depths,
    /// Stages of the backbone, and the norms behind them, one each or none at all.
    Maps([usize; 4], Vec<LayerNorm>),
}

impl Features {
    /// Of a backbone on maps the parameters `norm{i}` or `outnorm{i}`, if its family has such norms.
    pub fn new(p: &mut Params, config: &Config) -> Result<Self> {
        if config.hierarchy.is_none() {
            return Ok(Self::Depths);
        }
        let mut norms = Vec::new();
        if let Some((name, eps)) = config.family.feature_norm {
            for (i, width) in config.map_widths()?.into_iter().enumerate() {
                norms.push(LayerNorm::new(p, &format!("{name}{i}"), width, eps)?);
            }
        }
        Ok(Self::Maps(config.feature_stages()?, norms))
    }

    /// All patches (B, L, P·P·3) in raster order → four maps (B, h, w, C).
    pub fn forward(
        &self, r: &mut Recorder, backbone: &Backbone, patches: &Var, drop_path: Option<&Tensor>,
    ) -> Result<[Var; 4]> {
        let maps = match self {
            Self::Depths => backbone.depths(r, patches, drop_path, 4)?,
            Self::Maps(stages, norms) => {
                let all = backbone.pyramid(r, patches, drop_path)?;
                let mut maps: Vec<Var> = stages.iter().filter_map(|&stage| all.get(stage).cloned()).collect();
                for (map, norm) in maps.iter_mut().zip(norms) {
                    *map = r.scope(&norm.name, |r| norm.forward(r, map))?;
                }
                maps
            }
        };
        maps.try_into().map_err(|maps: Vec<_>| Error::argument("maps of the backbone", maps.len(), 4))
    }
}

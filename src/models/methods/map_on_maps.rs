//! MAP on a backbone on maps: convolutions never see hidden pixels, a token stands for a hidden patch from the map on
//! whose cells are patches, and MAP's decoder reads the visible cells of the last two maps. This is ours: the paper
//! pretrains MambaVision so and does not say how (src/models/README.md, "MAP on maps").

use super::map::encoder;
use super::objective::Objective;
use super::pretext::PixelPretext;
use super::region_decoder::{LINEAR, RegionDecoder};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::backbones::Backbone;
use crate::models::batch::MaskedBatch;
use crate::models::config::Config;
use crate::nn::{Init, LayerNorm, Linear, Params};
use crate::ops::add::add;
use crate::ops::reshape::reshape;
use crate::ops::tokens::gather;
use crate::ops::upsample::nearest;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Pixels of a cell of the map that the decoder reads. Patches have the same side.
const STRIDE: usize = 16;

/// Encoder and decoder.
#[derive(Debug, Clone)]
pub struct MapOnMaps {
    encoder: Backbone,
    /// Stands for a hidden patch in the encoder: (4D).
    token: Var,
    /// Of the map whose cells are patches.
    norm: LayerNorm,
    decoder: RegionDecoder,
    /// The last map in the decoder's width.
    embed_last: Linear,
    pred: Linear,
    objective: Objective,
}

impl MapOnMaps {
    /// The method with the decoder's mask and the target of `objective`. Beside MAP's parameters there are
    /// `encoder_mask_token`, `decoder_embed_norm` and `decoder_embed_3`.
    ///
    /// # Errors
    /// Patches that are not 16 pixels wide, or images whose sides are no multiples of 32.
    pub fn with(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Self> {
        if config.patch_size != STRIDE {
            return Err(Error::argument("patch_size", config.patch_size, "16, the cells of the map that is masked"));
        }
        for side in [config.image_size, config.image_width.unwrap_or(config.image_size)] {
            if !side.is_multiple_of(2 * STRIDE) {
                return Err(Error::argument("image_size", side, "a multiple of 32 for pretraining on maps"));
            }
        }
        let stages = &config.stages()?.stages;
        let (Some(cells), Some(last)) = (stages.iter().rev().nth(1), stages.last()) else {
            return Err(Error::argument("hierarchy.stages", stages.len(), "at least 2"));
        };
        let width = cells.width;
        Ok(Self {
            encoder: encoder(g, params, config)?,
            token: params.add("encoder_mask_token", &[width], &[width], Init::Normal(0.02))?,
            norm: LayerNorm::new(params, "decoder_embed_norm", width, 1e-5)?,
            decoder: RegionDecoder::reading(g, params, config, objective, width)?,
            embed_last: Linear::new(params, "decoder_embed_3", last.width, config.decoder.width, LINEAR)?,
            pred: Linear::new(params, "ar_pred", config.decoder.width, config.patch_len(), LINEAR)?,
            objective: objective.clone(),
        })
    }
}

impl PixelPretext for MapOnMaps {
    fn objective(&self) -> &Objective {
        &self.objective
    }

    fn encoder(&self) -> &Backbone {
        &self.encoder
    }

    /// (B, V, d): the visible cells of both maps, already in the decoder's width.
    fn encode(&self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>) -> Result<Var> {
        let maps = self.encoder.masked_pyramid(r, batch, &self.token, drop_path)?;
        let [.., cells, last] = &maps[..] else {
            return Err(Error::argument("maps of the encoder", maps.len(), "at least 2"));
        };
        let [b, h, w, _] = cells.data.dims("cells")?;
        let cells = r.scope(&self.norm.name, |r| self.norm.operand(r, cells))?;
        let cells = self.decoder.embed(r, &cells)?; // (B, h, w, d)
        let last = r.scope(&self.embed_last.name, |r| {
            let last = self.embed_last.forward(r, last)?; // (B, h/2, w/2, d)
            nearest(r, &last)
        })?;
        let all = add(r, &cells, &last)?;
        let d = all.data.rows_cols().1;
        let all = reshape(r, &all, &[b, h * w, d])?;
        gather(r, &all, &batch.visible, &batch.inverse)
    }

    fn decode(&self, r: &mut Recorder, features: &Var, batch: &MaskedBatch) -> Result<Var> {
        let x = self.decoder.forward_of(r, features, batch)?; // (B, L, d)
        r.scope(&self.pred.name, |r| self.pred.forward(r, &x))
    }
}

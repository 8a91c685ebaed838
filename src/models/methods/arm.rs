//! ARM's own pretraining (Ren et al., ICLR 2025): the encoder reads clusters of patches in order, and a decoder
//! predicts each cluster from those before it (src/models/README.md, "ARM's pretraining").

use std::rc::Rc;

use super::objective::{Method, MethodFacts, Objective};
use super::pretext::{PixelPretext, Reconstruction};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::backbones::Backbone;
use crate::models::backbones::arm_encoder::{ArmEncoder, OF_CLUSTER, by_clusters, expect_clusters, tables, taps};
use crate::models::batch::MaskedBatch;
use crate::models::config::{Config, Family};
use crate::nn::{BlockConfig, CrossBlock, Init, LayerNorm, Linear, Params};
use crate::ops::attention::{AttentionMask, Regions};
use crate::ops::concat::narrow;
use crate::ops::mse_norm::{MseNormOptions, mse_norm};
use crate::ops::reduce::sum;
use crate::ops::reshape::reshape;
use crate::ops::tokens;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

impl Method {
    /// Autoregression over clusters of 4×4 patches, of ARM's encoder only.
    pub const ARM: Self = Self(&MethodFacts {
        name: "arm",
        hides: false,
        mask_ratio: 0.0,
        any_target: false,
        encodes: |family| *family == Family::ARM,
        check: |_, config| {
            expect_clusters((config.grid(), config.grid_columns()))?;
            let d = &config.decoder;
            if !(1..=4).contains(&d.depth) || d.depth > config.depth() {
                let expected = format!("1 to {}: each block reads another depth of the encoder", config.depth().min(4));
                return Err(Error::argument("decoder.depth of method arm", d.depth, expected));
            }
            Ok(())
        },
        ..MethodFacts::PLAIN
    });
}

/// Encoder and decoder: ARM's `ARM` of its pretraining.
#[derive(Debug, Clone)]
pub struct ArmPretraining {
    encoder: Rc<ArmEncoder>,
    backbone: Backbone,
    enc2dec: Linear,
    ar_token: Var,
    /// Fixed, (1, L, d).
    positions: Var,
    blocks: Vec<CrossBlock>,
    norm: LayerNorm,
    pred: Linear,
    /// All clusters but the last, which the encoder reads, and all but the first, which are predicted.
    seen: [Tensor; 2],
    predicted: [Tensor; 2],
    /// Whether a patch is predicted, in raster order.
    is_predicted: Vec<bool>,
    /// The cluster of each token of either.
    regions: Regions,
    objective: Objective,
}

impl ArmPretraining {
    /// Parameters under their official names. The decoder has `config.decoder.depth` blocks and as many taps.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Self> {
        Self::tapped_at(g, params, config, objective, &taps(config.depth(), config.decoder.depth))
    }

    /// [`ArmPretraining::new`] with the taps given.
    pub fn tapped_at(
        g: &Gpu, params: &mut Params, config: &Config, objective: &Objective, taps: &[usize],
    ) -> Result<Self> {
        let (d, decoder, eps) = (config.decoder.width, &config.decoder, config.eps());
        let grid = (config.grid(), config.grid_columns());
        let (order, l) = (by_clusters(grid), config.tokens());
        let (Some(seen), Some(predicted)) = (l.checked_sub(OF_CLUSTER).map(|v| &order[..v]), order.get(OF_CLUSTER..))
        else {
            return Err(Error::argument("patches of method arm", l, format!("more than {OF_CLUSTER}")));
        };
        let regions: Vec<u32> = (0..seen.len()).map(|i| (i / OF_CLUSTER) as u32).collect();
        let encoder = Rc::new(ArmEncoder::new(g, params, config, taps)?);
        let block = BlockConfig {
            width: d,
            heads: decoder.heads,
            hidden: (d as f64 * decoder.mlp_ratio).round() as usize,
            eps,
            qkv_bias: true,
            init: Init::XavierUniform,
        };
        let sines = Init::SinCos { columns: grid.1, class: None, scale: 1.0 };
        let enc2dec = Linear::new(params, "enc2dec", taps.len() * config.width, taps.len() * d, Init::FanIn(1.0))?;
        let positions = params.add("dec_pos_embed", &[1, l, d], &[1, l, d], sines)?;
        let blocks = 0..taps.len();
        Ok(Self {
            backbone: encoder.clone(),
            encoder,
            enc2dec,
            ar_token: params.add("ar_token", &[1, 1, d], &[1, d], Init::TruncNormal(0.02))?,
            positions: Var::constant(positions.data),
            blocks: blocks
                .map(|k| CrossBlock::new(params, &format!("dec_block.{k}"), &block))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(params, "ar_norm", d, eps)?,
            pred: Linear::new(params, "ar_pred", d, config.patch_len(), Init::FanIn(1.0))?,
            seen: tables(g, seen, l)?,
            predicted: tables(g, predicted, l)?,
            is_predicted: (0..l as u32).map(|patch| predicted.contains(&patch)).collect(),
            regions: Regions::new(g, &regions)?,
            objective: objective.clone(),
        })
    }

    /// The queries of `b` images (B, V, d): the token that asks and the position that it asks about.
    fn queries(&self, r: &mut Recorder, b: usize) -> Result<Var> {
        let [places, ranks] = &self.predicted;
        let positions = tokens::gather(r, &self.positions, places, ranks)?; // (1, V, d)
        let [_, v, d] = positions.data.dims("positions")?;
        let each = reshape(r, &positions, &[v, 1, d])?;
        let asked = tokens::add_positions(r, &each, &self.ar_token)?;
        let table = reshape(r, &asked, &[v, d])?;
        let nothing = Tensor::scratch("queries", &[b, v, d]);
        nothing.fill(r, 0.0)?;
        tokens::add_positions(r, &Var::constant(nothing), &table)
    }

    /// What [`PixelPretext::encode`] gives (B, V, blocks·d) → predicted patches of the clusters behind the first,
    /// cluster by cluster (B, V, P·P·3).
    fn predictions(&self, r: &mut Recorder, latent: &Var) -> Result<Var> {
        let [b, v, all] = latent.data.dims("latent")?;
        let (count, d) = (self.blocks.len(), all / self.blocks.len().max(1));
        let columns = reshape(r, latent, &[b * v * d, count])?; // channel c of block k is column count·c + k
        let mut x = r.scope("ar_token", |r| self.queries(r, b))?;
        for (k, block) in self.blocks.iter().enumerate() {
            let (name, block, regions) = (block.name.clone(), block.clone(), self.regions.clone());
            let columns = columns.clone();
            let run = move |r: &mut Recorder| {
                let memory = narrow(r, &columns, k, 1)?;
                let memory = reshape(r, &memory, &[b, v, d])?;
                Ok([block.forward_from(r, &x, &memory, AttentionMask::RegionCausal, Some(&regions))?])
            };
            [x] = r.scope(&name, |r| r.segment(run))?;
        }
        let x = r.scope(&self.norm.name, |r| self.norm.forward(r, &x))?;
        r.scope(&self.pred.name, |r| self.pred.forward(r, &x))
    }

    /// Predicted patches (B, V, P·P·3) → their mean squared error over all of them: one number. Targets are always
    /// normalized.
    fn loss(&self, r: &mut Recorder, pred: &Var, batch: &MaskedBatch) -> Result<Var> {
        r.scope("loss", |r| {
            let [places, ranks] = &self.predicted;
            let [b, v, _] = pred.data.dims("predictions")?;
            let targets = tokens::gather(r, &Var::constant(batch.patches.clone()), places, ranks)?;
            let counted = Tensor::scratch("counted", &[b, v]);
            counted.fill(r, 1.0)?;
            let options = MseNormOptions { scale: 1.0 / (b * v) as f32, ..MseNormOptions::default() };
            let rows = mse_norm(r, pred, &targets.data, &counted, options)?;
            sum(r, &rows)
        })
    }

    /// Predicted patches of the clusters behind the first, cluster by cluster (B, V, P·P·3), and the loss, from what
    /// [`PixelPretext::encode`] gives.
    pub fn predicted(&self, r: &mut Recorder, latent: &Var, batch: &MaskedBatch) -> Result<(Var, Var)> {
        let pred = self.predictions(r, latent)?;
        let loss = self.loss(r, &pred, batch)?;
        Ok((pred, loss))
    }
}

impl PixelPretext for ArmPretraining {
    fn objective(&self) -> &Objective {
        &self.objective
    }

    fn encoder(&self) -> &Backbone {
        &self.backbone
    }

    /// All clusters but the last: what the decoder's blocks read, interleaved (B, V, blocks·d). Pretraining knows no
    /// DropPath, and the tables of `batch` do not count.
    fn encode(&self, r: &mut Recorder, batch: &MaskedBatch, _drop_path: Option<&Tensor>) -> Result<Var> {
        let x = self.encoder.embed(r, &Var::constant(batch.patches.clone()), &self.seen)?;
        let x = self.encoder.tapped(r, &x)?;
        r.scope(&self.enc2dec.name, |r| self.enc2dec.forward(r, &x))
    }

    /// In raster order (B, L, P·P·3); the first cluster, which nothing predicts, is 0.
    fn decode(&self, r: &mut Recorder, features: &Var, _batch: &MaskedBatch) -> Result<Var> {
        let pred = self.predictions(r, features)?;
        let [places, ranks] = &self.predicted;
        tokens::gather(r, &pred, ranks, places)
    }

    /// All but the first cluster.
    fn targets(&self) -> Option<Vec<bool>> {
        Some(self.is_predicted.clone())
    }

    fn reconstruct(&self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>) -> Result<Reconstruction> {
        let encoder = self.encode(r, batch, drop_path)?;
        let (pred, loss) = self.predicted(r, &encoder, batch)?;
        let [places, ranks] = &self.predicted;
        Ok(Reconstruction { encoder, pred: tokens::gather(r, &pred, ranks, places)?, loss })
    }
}

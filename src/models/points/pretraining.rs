//! Masked pretraining on point clouds: a decoder rebuilds the points of hidden patches. Point-MAE's decoder sees all
//! patches; MAP's sees those of its own row and of the rows before, in the order visible, then hidden.

use std::sync::Arc;

use super::config::PointConfig;
use super::encoder::{PointBatch, PointEncoder, block_config};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::nn::{Block, Init, LayerNorm, Linear, Params, PositionMlp};
use crate::ops::add::add;
use crate::ops::attention::Regions;
use crate::ops::chamfer::chamfer;
use crate::ops::matmul::Act;
use crate::ops::reduce::sum;
use crate::ops::reshape::reshape;
use crate::ops::tokens::{gather, restore};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Encoder and decoder.
#[derive(Debug, Clone)]
pub struct PointPretraining {
    encoder: PointEncoder,
    mask_token: Var,
    positions: PositionMlp,
    blocks: Vec<Block>,
    norm: LayerNorm,
    points: Linear,
    /// The rows of MAP.
    rows: Option<Regions>,
    config: PointConfig,
    name: Arc<str>,
}

/// What the decoder made of hidden patches.
#[derive(Debug, Clone)]
pub struct PointReconstruction {
    /// Features of the visible patches (B, V, D).
    pub encoder: Var,
    /// Rebuilt points of the hidden patches, relative to their centers (B·M, K, 3).
    pub rebuilt: Var,
    /// The Chamfer distance to the true points, one number.
    pub loss: Var,
}

impl PointPretraining {
    /// Parameters under the official names: `MAE_encoder`, `mask_token`, `decoder_pos_embed`, `MAE_decoder` and
    /// `increase_dim`. `rows` for MAP.
    ///
    /// # Errors
    /// Patches of MAP that make no square.
    pub fn new(g: &Gpu, params: &mut Params, config: &PointConfig, rows: bool) -> Result<Self> {
        let (width, groups) = (config.width, config.groups);
        let side = groups.isqrt();
        if rows && side * side != groups {
            return Err(Error::argument("groups of MAP on point clouds", groups, "a square, as 64: rows of its root"));
        }
        let class_token = config.pools_locally(); // Mamba3D's checkpoints hold one that nothing reads
        let encoder = params.scope("MAE_encoder", |p| PointEncoder::new(p, config, class_token))?;
        let blocks = block_config(config, Init::XavierUniform);
        let decoder = params.scope("MAE_decoder", |p| {
            let block = |i| Block::new(p, &format!("blocks.{i}"), &blocks);
            let blocks = (0..config.decoder_depth).map(block).collect::<Result<Vec<_>>>()?;
            Ok((blocks, LayerNorm::new(p, "norm", width, PointConfig::EPS)?, p.path()))
        })?;
        let (blocks, norm, name) = decoder;
        let token = params.add("mask_token", &[1, 1, width], &[width], Init::TruncNormal(0.02))?;
        let sizes = (config.pos_hidden, width);
        let table: Vec<u32> = (0..groups).map(|t| (t / side) as u32).collect();
        Ok(Self {
            encoder,
            mask_token: token,
            positions: PositionMlp::new(params, "decoder_pos_embed", sizes, Act::Gelu, Init::FanIn(1.0))?,
            blocks,
            norm,
            points: Linear::pointwise(params, "increase_dim.0", (width, 3 * config.group_size), 1, Init::FanIn(1.0))?,
            rows: rows.then(|| Regions::new(g, &table)).transpose()?,
            config: config.clone(),
            name,
        })
    }

    /// The encoder.
    pub fn encoder(&self) -> &PointEncoder {
        &self.encoder
    }

    /// Encodes the first `visible` patches of each cloud, rebuilds the others, and compares them with the true ones.
    ///
    /// # Errors
    /// No visible or no hidden patch.
    pub fn reconstruct(
        &self, r: &mut Recorder, batch: &PointBatch, visible: usize, drop_path: Option<&Tensor>,
    ) -> Result<PointReconstruction> {
        let [b, groups, k, _] = batch.patches.dims("patches of points")?;
        if !(1..groups).contains(&visible) {
            return Err(Error::argument("visible patches", visible, format!("1 to {}", groups - 1)));
        }
        let hidden = groups - visible;
        let (seen, not) = (Part::new(r.gpu(), b, groups, 0..visible)?, Part::new(r.gpu(), b, groups, visible..groups)?);
        let tokens = self.encoder.tokens(r, &batch.patches)?; // batch norms see the hidden patches too
        let tokens = seen.of(r, &tokens)?; // (B, V, D)
        let centers = seen.of(r, &Var::constant(batch.centers.clone()))?.data;
        let encoder = self.encoder.encode(r, &tokens, &centers, batch.neighbors.as_ref(), false, drop_path)?;
        let decoded = self.decode(r, &encoder, &batch.centers, &seen)?; // (B, G, D)
        let last = not.of(r, &decoded)?; // (B, M, D)
        let last = r.scope(&self.norm.name, |r| self.norm.operand(r, &last))?;
        let points = r.scope(&self.points.name, |r| self.points.forward(r, &last))?; // (B, M, 3K)
        let rebuilt = reshape(r, &points, &[b * hidden, k, 3])?;
        let flat = Var::constant(batch.patches.reshape(&[b, groups, 3 * k])?);
        let target = not.of(r, &flat)?.data.reshape(&[b * hidden, k, 3])?;
        let loss = r.scope("loss", |r| {
            let shares = chamfer(r, &rebuilt, &Var::constant(target), self.config.loss.into())?;
            sum(r, &shares)
        })?;
        Ok(PointReconstruction { encoder, rebuilt, loss })
    }

    /// Features of the visible patches (B, V, D) → features of all (B, G, D).
    fn decode(&self, r: &mut Recorder, features: &Var, centers: &Tensor, seen: &Part) -> Result<Var> {
        let positions = self.positions.forward(r, &Var::constant(centers.clone()))?; // (B, G, D)
        let [_, groups, width] = positions.data.dims("positions")?;
        r.scope(&self.name, |r| {
            let nowhere = Tensor::scratch("no positions", &[groups, width]);
            nowhere.fill(r, 0.0)?;
            let nowhere = Var::constant(nowhere);
            let mut x = restore(r, features, &self.mask_token, &nowhere, &seen.ids, &seen.inverse)?;
            for block in &self.blocks {
                let (block, positions, rows) = (block.clone(), positions.clone(), self.rows.clone());
                [x] = r.segment(move |r| {
                    let u = add(r, &x, &positions)?; // again in front of every block
                    r.scope(&block.name, |r| Ok([block.forward_causal(r, &u, None, rows.as_ref())?]))
                })?;
            }
            Ok(x)
        })
    }
}

/// Consecutive tokens of every cloud, as tables.
struct Part {
    ids: Tensor,
    inverse: Tensor,
}

impl Part {
    fn new(g: &Gpu, b: usize, tokens: usize, part: std::ops::Range<usize>) -> Result<Self> {
        let ids: Vec<u32> = part.clone().map(|t| t as u32).collect();
        let place = |t: usize| if part.contains(&t) { (t - part.start) as u32 } else { u32::MAX };
        let inverse: Vec<u32> = (0..tokens).map(place).collect();
        Ok(Self {
            ids: Tensor::from_indices(g, &[b, ids.len()], &ids.repeat(b))?,
            inverse: Tensor::from_indices(g, &[b, tokens], &inverse.repeat(b))?,
        })
    }

    fn of(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        gather(r, x, &self.ids, &self.inverse)
    }
}

//! Masked pretraining on point clouds: a decoder rebuilds the points of hidden patches. Point-MAE's decoder (Pang et
//! al. 2022) sees all patches; MAP's sees those of its own row and of the rows before, in the order visible, then
//! hidden (src/models/README.md, "Point clouds").

use std::rc::Rc;
use std::sync::Arc;

use super::objective::{DecoderMask, Method, MethodFacts, Objective};
use super::pretext::{PointReconstruction, Pretext, StepResult};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::backbones::Backbone;
use crate::models::backbones::encoder::{Encoder, Purpose};
use crate::models::backbones::points::{PointEncoder, block_config};
use crate::models::batch::MaskedBatch;
use crate::models::config::Config;
use crate::models::points::PointLoss;
use crate::nn::{Block, Init, LayerNorm, Linear, Params, PositionMlp, Sight};
use crate::ops::add::add;
use crate::ops::attention::Regions;
use crate::ops::chamfer::chamfer;
use crate::ops::concat::narrow;
use crate::ops::matmul::Act;
use crate::ops::reduce::sum;
use crate::ops::registers::{Places, insert};
use crate::ops::reshape::reshape;
use crate::ops::tokens::{gather, restore};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

impl Method {
    /// Masked autoencoding of point clouds.
    pub const POINT_MAE: Self = Self(&MethodFacts {
        name: "point-mae",
        encodes: |family| family.clouds,
        mask_ratio: 0.6,
        decoder_mask: DecoderMask::Mae,
        predicts: false,
        check: |_, _| Ok(()),
        ..MethodFacts::PLAIN
    });
}

/// Encoder and decoder.
#[derive(Debug, Clone)]
pub struct PointPretraining {
    encoder: Rc<PointEncoder>,
    shared: Backbone,
    mask_token: Var,
    positions: PositionMlp,
    blocks: Vec<Block>,
    norm: LayerNorm,
    increase_dim: Linear,
    /// The rows of MAP.
    rows: Option<Regions>,
    loss: PointLoss,
    objective: Objective,
    name: Arc<str>,
}

impl PointPretraining {
    /// Parameters under the official names: `MAE_encoder`, `mask_token`, `decoder_pos_embed`, `MAE_decoder` and
    /// `increase_dim`.
    ///
    /// # Errors
    /// Patches of MAP that make no square.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Self> {
        config.validate()?;
        let (width, sizes) = (config.width, config.points()?);
        let (groups, side) = (sizes.groups, sizes.groups.isqrt());
        let rows = objective.mask() == DecoderMask::Map;
        if rows && side * side != groups {
            return Err(Error::argument(
                "points.groups for MAP",
                groups,
                "a square, as 64: it predicts rows of the root",
            ));
        }
        let encoder = Rc::new(params.scope("MAE_encoder", |p| PointEncoder::new(p, config, Purpose::Pretraining))?);
        let blocks = block_config(config, Init::XavierUniform);
        let (blocks, norm, name) = params.scope("MAE_decoder", |p| {
            let block = |i| Block::new(p, &format!("blocks.{i}"), &blocks);
            let blocks = (0..config.decoder.depth).map(block).collect::<Result<Vec<_>>>()?;
            Ok((blocks, LayerNorm::new(p, "norm", width, config.eps())?, p.path()))
        })?;
        let table: Vec<u32> = (0..groups).map(|t| (t / side) as u32).collect();
        let points = (width, 3 * sizes.group_size);
        Ok(Self {
            shared: encoder.clone(),
            encoder,
            mask_token: params.add("mask_token", &[1, 1, width], &[width], Init::TruncNormal(0.02))?,
            positions: PositionMlp::new(
                params,
                "decoder_pos_embed",
                (sizes.pos_hidden, width),
                Act::Gelu,
                Init::FanIn(1.0),
            )?,
            blocks,
            norm,
            increase_dim: Linear::pointwise(params, "increase_dim.0", points, 1, Init::FanIn(1.0))?,
            rows: rows.then(|| Regions::new(g, &table)).transpose()?,
            loss: sizes.loss,
            objective: objective.clone(),
            name,
        })
    }

    /// The encoder.
    pub fn points(&self) -> &PointEncoder {
        &self.encoder
    }

    /// Encodes the visible patches, rebuilds the hidden ones, and compares them with the true ones.
    ///
    /// # Errors
    /// A batch without tables of the patches that count, or in which nothing is hidden.
    pub fn reconstruct(
        &self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>,
    ) -> Result<PointReconstruction> {
        let [_, groups, _] = batch.patches.dims("patches of points")?;
        let [b, visible] = batch.visible.dims("visible patches")?;
        let (Some((counted, place)), true) = (&batch.counted, visible < groups) else {
            let expected = format!("1 to {}: a hidden patch to rebuild", groups - 1);
            return Err(Error::argument("visible patches", visible, expected));
        };
        let hidden = groups - visible;
        let encoder = self.encoder.encode_visible(r, batch, drop_path)?; // (B, V, D)
        let (points, centers) = self.encoder.split(r, &Var::constant(batch.patches.clone()))?;
        let [_, _, k, _] = points.data.dims("points")?;
        // visible patches first, then the hidden ones
        let seen = gather(r, &centers, &batch.visible, &batch.inverse)?;
        let not = gather(r, &centers, counted, place)?;
        let centers = insert(r, &not, &seen, Places { first: 0, step: 1, count: visible })?;
        let decoded = self.decode(r, &encoder, &centers)?; // (B, G, D)
        let last = Part::new(r.gpu(), b, groups, visible..groups)?.of(r, &decoded)?; // (B, M, D)
        let last = r.scope(&self.norm.name, |r| self.norm.operand(r, &last))?;
        let made = r.scope(&self.increase_dim.name, |r| self.increase_dim.forward(r, &last))?; // (B, M, 3K)
        let rebuilt = reshape(r, &made, &[b * hidden, k, 3])?;
        let all = narrow(r, &Var::constant(batch.patches.clone()), 0, 3 * k)?;
        let target = gather(r, &all, counted, place)?;
        let target = reshape(r, &target, &[b * hidden, k, 3])?;
        let loss = r.scope("loss", |r| {
            let shares = chamfer(r, &rebuilt, &target, self.loss.into())?;
            sum(r, &shares)
        })?;
        Ok(PointReconstruction { encoder, rebuilt, target: target.data, loss })
    }

    /// Features of the visible patches (B, V, D) → features of all (B, G, D).
    fn decode(&self, r: &mut Recorder, features: &Var, centers: &Var) -> Result<Var> {
        let positions = self.positions.forward(r, centers)?; // (B, G, D)
        let ([b, groups, width], [_, visible, _]) =
            (positions.data.dims("positions")?, features.data.dims("features")?);
        let seen = Part::new(r.gpu(), b, groups, 0..visible)?;
        r.scope(&self.name, |r| {
            let nowhere = Tensor::scratch("no positions", &[groups, width]);
            nowhere.fill(r, 0.0)?;
            let nowhere = Var::constant(nowhere);
            let mut x = restore(r, features, &self.mask_token, &nowhere, &seen.ids, &seen.inverse)?;
            for block in &self.blocks {
                let (block, positions) = (block.clone(), positions.clone());
                let sight = self.rows.clone().map_or(Sight::All, Sight::Causal);
                [x] = r.segment(move |r| {
                    let u = add(r, &x, &positions)?; // again in front of every block
                    r.scope(&block.name, |r| Ok([block.forward_seeing(r, &u, None, &sight)?]))
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

impl Pretext for PointPretraining {
    fn method(&self) -> Method {
        self.objective.method
    }

    fn encoder(&self) -> &Backbone {
        &self.shared
    }

    fn forward(
        &self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>, _state: &Tensor,
    ) -> Result<StepResult> {
        Ok(StepResult::of(self.reconstruct(r, batch, drop_path)?.loss))
    }

    fn rebuild(&self, r: &mut Recorder, batch: &MaskedBatch) -> Result<Option<PointReconstruction>> {
        self.reconstruct(r, batch, None).map(Some)
    }

    fn reads_counted(&self) -> bool {
        true
    }
}

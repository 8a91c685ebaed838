//! Layers of networks on point clouds: what makes a token of a patch of points, positions of patches, and what the
//! neighbors of a patch tell it.

use std::sync::Arc;

use super::init::Init;
use super::linear::Linear;
use super::norm::{BatchNorm, BatchNormConfig, LayerNorm};
use super::params::Params;
use crate::error::Result;
use crate::ops::activation::silu;
use crate::ops::batch_norm::BatchNormAct;
use crate::ops::local_norm_pool::{Neighbors, local_norm_pool};
use crate::ops::matmul::Act;
use crate::ops::max_concat::max_concat;
use crate::ops::mlp::{MlpOptions, mlp};
use crate::ops::pool::{Windows, max_pool};
use crate::ops::registers::{Places, extract, insert, rest};
use crate::ops::reshape::reshape;
use crate::tape::{Recorder, Var};

/// Two layers on each point, with a batch norm and a ReLU between: `nn.Sequential(Conv1d, BatchNorm1d, ReLU, Conv1d)`.
#[derive(Debug, Clone)]
struct PointMlp {
    first: Linear,
    norm: BatchNorm,
    second: Linear,
}

impl PointMlp {
    /// Parameters `name.{0,1,3}`.
    fn new(p: &mut Params, name: &str, [inputs, hidden, outputs]: [usize; 3], init: Init) -> Result<Self> {
        p.scope(name, |p| {
            Ok(Self {
                first: Linear::pointwise(p, "0", (inputs, hidden), 1, init)?,
                norm: BatchNorm::new(p, "1", hidden, BatchNormConfig::default())?,
                second: Linear::pointwise(p, "3", (hidden, outputs), 1, init)?,
            })
        })
    }

    /// x (R, K, in) → (R, K, out). `ahead`: whether another batch norm follows, which takes the last bias out too.
    fn forward(&self, r: &mut Recorder, x: &Var, ahead: bool) -> Result<Var> {
        let first = if r.is_training() { self.first.before_batch_norm() } else { self.first.clone() };
        let x = r.scope(&first.name, |r| first.forward(r, x))?;
        let x = r.scope(&self.norm.name, |r| self.norm.forward_act(r, &x, BatchNormAct::Relu))?;
        // the same number for all points goes through the maximum and the layer behind it, into the next batch norm
        let second = if ahead && r.is_training() { self.second.before_batch_norm() } else { self.second.clone() };
        r.scope(&second.name, |r| second.forward(r, &x))
    }
}

/// A small PointNet that makes a token of each patch of points: `Encoder` of Point-BERT, Point-MAE and Mamba3D. Its
/// batch norms see all points of all patches.
#[derive(Debug, Clone)]
pub struct PatchPointNet {
    first: PointMlp,
    second: PointMlp,
}

impl PatchPointNet {
    /// Parameters `name.{first_conv,second_conv}.{0,1,3}`. `hidden` are the widths 128, 256, 512 of the official
    /// networks, and `width` that of a token.
    pub fn new(params: &mut Params, name: &str, hidden: [usize; 3], width: usize, init: Init) -> Result<Self> {
        let [narrow, local, wide] = hidden;
        params.scope(name, |p| {
            let first = PointMlp::new(p, "first_conv", [3, narrow, local], init)?;
            Ok(Self { first, second: PointMlp::new(p, "second_conv", [2 * local, wide, width], init)? })
        })
    }

    /// Patches (B, G, K, 3) → tokens (B, G, width)
    pub fn forward(&self, r: &mut Recorder, patches: &Var) -> Result<Var> {
        let [b, g, k, c] = patches.data.dims("patches of points")?;
        let x = reshape(r, patches, &[b * g, k, c])?;
        let x = self.first.forward(r, &x, true)?;
        let x = max_concat(r, &x)?; // what the patch has at most beside what the point has
        let x = self.second.forward(r, &x, false)?; // (B·G, K, width)
        let [_, _, width] = x.data.dims("points")?;
        let columns = reshape(r, &x, &[b * g, k, 1, width])?;
        let most = max_pool(r, &columns, Windows { kernel: [k, 1], stride: [k, 1], padding: [0; 2] })?;
        reshape(r, &most, &[b, g, width])
    }
}

/// The position of a patch from the coordinates of its center: `nn.Sequential(Linear, act, Linear)`.
#[derive(Debug, Clone)]
pub struct PositionMlp {
    first: Linear,
    second: Linear,
    act: Act,
    name: Arc<str>,
}

impl PositionMlp {
    /// Parameters `name.{0,2}`.
    pub fn new(params: &mut Params, name: &str, (hidden, width): (usize, usize), act: Act, init: Init) -> Result<Self> {
        params.scope(name, |p| {
            let first = Linear::new(p, "0", 3, hidden, init)?;
            Ok(Self { first, second: Linear::new(p, "2", hidden, width, init)?, act, name: p.path() })
        })
    }

    /// Centers (B, G, 3) → (B, G, width)
    pub fn forward(&self, r: &mut Recorder, centers: &Var) -> Result<Var> {
        let options = MlpOptions::act(self.act);
        r.scope(&self.name, |r| mlp(r, centers, self.first.layer(), self.second.layer(), options))
    }
}

/// Mamba3D's local norm pooling (LNP) with its norm, linear layer and SiLU: `LNPBlock`.
#[derive(Debug, Clone)]
pub struct LocalNormPooling {
    alpha: Var,
    beta: Var,
    norm: LayerNorm,
    mlp: Linear,
    name: Arc<str>,
}

impl LocalNormPooling {
    /// Parameters `name.lga.affine_{alpha,beta}_feat`, `name.pre_norm_ft` and `name.mlp.share_mlp`.
    pub fn new(params: &mut Params, name: &str, width: usize, eps: f32, init: Init) -> Result<Self> {
        params.scope(name, |p| {
            let affine = |p: &mut Params, name: &str, init| p.add(name, &[1, 1, 1, 2 * width], &[2 * width], init);
            Ok(Self {
                alpha: affine(p, "lga.affine_alpha_feat", Init::Ones)?,
                beta: affine(p, "lga.affine_beta_feat", Init::Zeros)?,
                norm: LayerNorm::new(p, "pre_norm_ft", 2 * width, eps)?,
                mlp: Linear::pointwise(p, "mlp.share_mlp", (2 * width, width), 1, init)?,
                name: p.path(),
            })
        })
    }

    /// x (B, T, D), or with a class token in front (B, 1 + T, D) → the same shape. The class token stays as it is.
    pub fn forward(&self, r: &mut Recorder, x: &Var, neighbors: &Neighbors, class_token: bool) -> Result<Var> {
        r.scope(&self.name, |r| {
            let patches = if class_token { rest(r, x, Places::front())? } else { x.clone() };
            let pooled = local_norm_pool(r, &patches, &self.alpha, &self.beta, neighbors, false)?; // (B, T, 2D)
            let normed = r.scope(&self.norm.name, |r| self.norm.operand(r, &pooled))?;
            let mixed = r.scope(&self.mlp.name, |r| self.mlp.forward(r, &normed))?;
            let y = silu(r, &mixed)?;
            if !class_token {
                return Ok(y);
            }
            let class = extract(r, x, Places::front())?;
            insert(r, &y, &class, Places::front())
        })
    }
}

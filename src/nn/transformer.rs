//! Transformer blocks: timm's pre-norm block, and the decoder block of MAP with separate norms for queries and keys.

use std::sync::Arc;

use super::init::Init;
use super::linear::Linear;
use super::norm::LayerNorm;
use super::params::Params;
use super::stored::stored;
use super::window_partition::WindowPartition;
use crate::error::{Error, Result};
use crate::gpu::DType;
use crate::ops::add::{add, add_drop_path};
use crate::ops::attention::{AttentionMask, AttentionOptions, Regions, cross_attention, self_attention, weights};
use crate::ops::matmul::Act;
use crate::ops::mlp::{MlpOptions, mlp};
use crate::ops::reshape::reshape;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// fc2(GELU(fc1(x))): timm's `Mlp`.
#[derive(Debug, Clone)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// Parameters `mlp.fc1` and `mlp.fc2`.
    pub fn new(params: &mut Params, width: usize, hidden: usize, init: Init) -> Result<Self> {
        params.scope("mlp", |p| {
            let fc1 = Linear::new(p, "fc1", width, hidden, init)?;
            Ok(Self { fc1, fc2: Linear::new(p, "fc2", hidden, width, init)? })
        })
    }

    /// x (.., D) → (.., D), plus `residual` (.., D) if there is one.
    pub fn forward_onto(&self, r: &mut Recorder, x: &Var, residual: Option<&Var>) -> Result<Var> {
        self.product(r, x, residual, DType::F32)
    }

    /// x (.., D) → (.., D), stored as mixed precision stores what a product writes, for a sum that reads f16.
    pub fn branch(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        let dtype = stored(r, self.fc2.weight.data.shape()[0]);
        self.product(r, x, None, dtype)
    }

    fn product(&self, r: &mut Recorder, x: &Var, residual: Option<&Var>, dtype: DType) -> Result<Var> {
        let hidden = stored(r, self.fc1.weight.data.shape()[0]);
        let options = MlpOptions { residual, hidden, dtype, ..MlpOptions::act(Act::Gelu) };
        mlp(r, x, self.fc1.layer(), self.fc2.layer(), options)
    }
}

/// Queries, keys or values for attention, stored as mixed precision stores operands of that head size.
fn project(r: &mut Recorder, linear: &Linear, x: &Var, heads: usize) -> Result<Var> {
    let dtype = stored(r, x.data.rows_cols().1 / heads);
    linear.forward_as(r, x, dtype)
}

fn check_heads(name: &str, width: usize, heads: usize) -> Result<()> {
    if heads == 0 || !width.is_multiple_of(heads) || width / heads > 128 {
        let expected = format!("a divisor of the width {width} with at most 128 per head");
        return Err(Error::argument(format!("{name}: heads"), heads, expected));
    }
    Ok(())
}

/// Sizes and initial values of a [`Block`] or a [`CrossBlock`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockConfig {
    /// Width D.
    pub width: usize,
    /// Attention heads, a divisor of the width.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub hidden: usize,
    /// Epsilon of the layer norms.
    pub eps: f32,
    /// Whether queries, keys and values have biases. Those of a [`CrossBlock`] always have.
    pub qkv_bias: bool,
    /// Initial values of the linear layers.
    pub init: Init,
}

/// proj(MHSA(qkv(x))): timm's `Attention`.
#[derive(Debug, Clone)]
pub struct SelfAttention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
}

impl SelfAttention {
    /// Parameters `name.qkv` and `name.proj`.
    pub fn new(params: &mut Params, name: &str, config: &BlockConfig) -> Result<Self> {
        let &BlockConfig { width, heads, qkv_bias, init, .. } = config;
        check_heads(&params.path(), width, heads)?;
        let qkv = if qkv_bias { Linear::new } else { Linear::no_bias };
        params.scope(name, |p| {
            let qkv = qkv(p, "qkv", width, 3 * width, init)?;
            Ok(Self { qkv, proj: Linear::new(p, "proj", width, width, init)?, heads })
        })
    }

    /// x (B, L, D) → (B, L, D), plus `residual` (B, L, D) if there is one. Every token attends to every token, or with
    /// `causal` only to those of its own region and of the regions before.
    pub fn forward_onto(
        &self, r: &mut Recorder, x: &Var, residual: Option<&Var>, causal: Option<&Regions>,
    ) -> Result<Var> {
        let qkv = project(r, &self.qkv, x, self.heads)?; // (B, L, 3D)
        let mask = if causal.is_some() { AttentionMask::RegionCausal } else { AttentionMask::Full };
        let y = self_attention(r, &qkv, AttentionOptions { heads: self.heads, mask, regions: causal })?; // (B, L, D)
        match residual {
            Some(residual) => self.proj.forward_onto(r, &y, residual),
            None => self.proj.forward(r, &y),
        }
    }
}

/// Which tokens a token attends to.
#[derive(Debug, Clone)]
pub enum Sight {
    /// All.
    All,
    /// Those of its own region and of the regions before.
    Causal(Regions),
    /// Those of its window, in a grid of tokens (H·W) by rows. The zeros that fill windows past the grid are seen, too.
    Window(WindowPartition),
}

/// y = x + MHSA(LN₁ x); y + MLP(LN₂ y): timm's `Block`.
#[derive(Debug, Clone)]
pub struct Block {
    norm1: LayerNorm,
    attention: SelfAttention,
    norm2: LayerNorm,
    mlp: Mlp,
    /// Its name in a checkpoint, for the scope of its launches.
    pub name: Arc<str>,
}

impl Block {
    /// Parameters `name.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}`.
    pub fn new(params: &mut Params, name: &str, config: &BlockConfig) -> Result<Self> {
        let &BlockConfig { width, hidden, eps, init, .. } = config;
        params.scope(name, |p| {
            Ok(Self {
                norm1: LayerNorm::new(p, "norm1", width, eps)?,
                attention: SelfAttention::new(p, "attn", config)?,
                norm2: LayerNorm::new(p, "norm2", width, eps)?,
                mlp: Mlp::new(p, width, hidden, init)?,
                name: p.path(),
            })
        })
    }

    /// x (B, L, D) → (B, L, D). Every token attends to every token. `drop_path` holds DropPath's factors (B) of the
    /// attention branch and of the MLP branch: 0 where an image drops the branch, else 1/(1 − rate).
    pub fn forward(&self, r: &mut Recorder, x: &Var, drop_path: Option<&[Tensor; 2]>) -> Result<Var> {
        self.forward_seeing(r, x, drop_path, &Sight::All)
    }

    /// [`Block::forward`] in which a token attends to some others only. With windows: the blocks of ViTDet.
    pub fn forward_seeing(
        &self, r: &mut Recorder, x: &Var, drop_path: Option<&[Tensor; 2]>, sight: &Sight,
    ) -> Result<Var> {
        let [attention, mlp] = drop_path.map_or([None; 2], |[attention, mlp]| [Some(attention), Some(mlp)]);
        let causal = match sight {
            Sight::Causal(regions) => Some(regions),
            _ => None,
        };
        let x = match (attention, sight) {
            (attention, Sight::Window(windows)) => {
                let y = self.within(r, x, windows)?;
                match attention {
                    Some(drop_path) => add_drop_path(r, x, &y, drop_path)?,
                    None => add(r, x, &y)?,
                }
            }
            (None, _) => {
                let y = self.norm1.operand(r, x)?;
                self.attention.forward_onto(r, &y, Some(x), causal)?
            }
            (Some(drop_path), _) => {
                let y = self.norm1.operand(r, x)?;
                let y = self.attention.forward_onto(r, &y, None, causal)?;
                add_drop_path(r, x, &y, drop_path)?
            }
        };
        let y = self.norm2.operand(r, &x)?;
        match mlp {
            None => self.mlp.forward_onto(r, &y, Some(&x)),
            Some(drop_path) => {
                let y = self.mlp.forward_onto(r, &y, None)?;
                add_drop_path(r, &x, &y, drop_path)
            }
        }
    }
}

impl Block {
    /// The attention branch of x (B, H·W, D) within windows: the cells that fill them are zeros behind the norm.
    fn within(&self, r: &mut Recorder, x: &Var, windows: &WindowPartition) -> Result<Var> {
        let ([b, l, d], [h, w]) = (x.data.dims("x")?, windows.size());
        let y = self.norm1.forward(r, x)?;
        let y = reshape(r, &y, &[b, h, w, d])?;
        let y = windows.partition(r, &y)?; // (B·windows, side², D)
        let y = self.attention.forward_onto(r, &y, None, None)?;
        let y = windows.reverse(r, &y)?;
        reshape(r, &y, &[b, l, d])
    }
}

/// y = x + CA(LN_q x, LN_kv x) under an attention mask; y + MLP(LN y): the decoder block of MAP's code. Queries and
/// keys come from the same tokens, so this is self-attention under the names of cross-attention. In ARM's decoder,
/// which has the same block, keys and values do come from other tokens.
#[derive(Debug, Clone)]
pub struct CrossBlock {
    norm_q: LayerNorm,
    norm_kv: LayerNorm,
    q: Linear,
    kv: Linear,
    proj: Linear,
    norm: LayerNorm,
    mlp: Mlp,
    heads: usize,
    /// Its name in a checkpoint, for the scope of its launches.
    pub name: Arc<str>,
}

impl CrossBlock {
    /// Parameters `name.{norm2_1,norm2_2,attn2.q,attn2.kv,attn2.proj,norm2,mlp.fc1,mlp.fc2}`.
    pub fn new(params: &mut Params, name: &str, config: &BlockConfig) -> Result<Self> {
        let &BlockConfig { width, heads, hidden, eps, init, .. } = config;
        check_heads(name, width, heads)?;
        params.scope(name, |p| {
            Ok(Self {
                norm_q: LayerNorm::new(p, "norm2_1", width, eps)?,
                norm_kv: LayerNorm::new(p, "norm2_2", width, eps)?,
                q: Linear::new(p, "attn2.q", width, width, init)?,
                kv: Linear::new(p, "attn2.kv", width, 2 * width, init)?,
                proj: Linear::new(p, "attn2.proj", width, width, init)?,
                norm: LayerNorm::new(p, "norm2", width, eps)?,
                mlp: Mlp::new(p, width, hidden, init)?,
                heads,
                name: p.path(),
            })
        })
    }

    /// x (B, L, D) and memory (B, M, D) → queries (B, L, D), keys and values (B, M, 2D)
    fn queries_keys(&self, r: &mut Recorder, x: &Var, memory: &Var) -> Result<(Var, Var)> {
        let q = self.norm_q.operand(r, x)?;
        let kv = self.norm_kv.operand(r, memory)?;
        Ok((project(r, &self.q, &q, self.heads)?, project(r, &self.kv, &kv, self.heads)?))
    }

    /// x (B, L, D) → the attention weights (B, H, L, L): softmax(q·kᵀ/√(D/H)) under the mask.
    pub fn weights(&self, r: &mut Recorder, x: &Var, mask: AttentionMask, regions: Option<&Regions>) -> Result<Tensor> {
        let (q, kv) = self.queries_keys(r, x, x)?;
        weights(r, &q.data, &kv.data, AttentionOptions { heads: self.heads, mask, regions })
    }

    /// x (B, L, D) → (B, L, D)
    pub fn forward(&self, r: &mut Recorder, x: &Var, mask: AttentionMask, regions: Option<&Regions>) -> Result<Var> {
        self.forward_from(r, x, x, mask, regions)
    }

    /// x (B, L, D) → (B, L, D), with keys and values from `memory` (B, M, D): cross-attention proper. A mask needs
    /// L = M.
    pub fn forward_from(
        &self, r: &mut Recorder, x: &Var, memory: &Var, mask: AttentionMask, regions: Option<&Regions>,
    ) -> Result<Var> {
        let (q, kv) = self.queries_keys(r, x, memory)?;
        let y = cross_attention(r, &q, &kv, AttentionOptions { heads: self.heads, mask, regions })?;
        let x = self.proj.forward_onto(r, &y, x)?;
        let y = self.norm.operand(r, &x)?;
        self.mlp.forward_onto(r, &y, Some(&x))
    }
}

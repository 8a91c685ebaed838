//! From patches to a sequence: patch embedding, positions, scan order, and prefix tokens
//! (src/models/README.md, "Patches, positions and registers").
//!
//! *Prefix tokens* is timm's name for registers and class tokens. Only a ViT has them in front: each family has its own
//! places for them.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::config::{Config, Family};
use crate::models::options::{InitPositions, Order, Positions};
use crate::nn::{Init, Linear, Params};
use crate::ops;
use crate::ops::registers::Places;
use crate::ops::reshape::reshape;
use crate::ops::tokens;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// The input side of a backbone.
#[derive(Debug, Clone)]
pub struct Embedding {
    family: Family,
    patch: Linear,
    /// (1, L, D), or (1, L+n, D) where prefix tokens have rows of it.
    pos: Var,
    prefix: Option<Prefix>,
    /// If the encoder scans by columns: the raster position of each token of the sequence (L), and the place in the
    /// sequence of each raster position (L).
    columns: Option<(Tensor, Tensor)>,
    /// Rows and columns of patches.
    grid: (usize, usize),
}

/// Registers or class tokens (1, n, D), in HybridNet and Mamba-R with positions of their own (1, n, D).
#[derive(Debug, Clone)]
struct Prefix {
    token: Var,
    pos: Option<Var>,
    count: usize,
}

impl Embedding {
    /// Parameters `patch_embed.proj`, `pos_embed`, `cls_token` and, for registers, `pos_embed_cls`.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let (d, p, l, n) = (config.width, config.patch_size, config.tokens(), config.registers);
        let small = Init::TruncNormal(0.02);
        let patch = params.scope("patch_embed", |params| {
            Ok(Linear {
                weight: params.add("proj.weight", &[d, 3, p, p], &[d, 3 * p * p], Init::LecunNormal)?,
                bias: Some(params.add("proj.bias", &[d], &[d], Init::Zeros)?),
                name: params.path(),
            })
        })?;
        let separate = config.family.separate_positions;
        let rows = if separate { l } else { l + n };
        let init = match (config.positions, config.init_positions) {
            (Positions::Learned, InitPositions::Normal) => small,
            (Positions::SinCos, _) | (_, InitPositions::SinCos) => {
                let class = (rows > l).then(|| (config.family.places)(l, n).first);
                let fixed = config.positions == Positions::SinCos;
                let scale = if fixed { 1.0 } else { config.position_scale as f32 };
                Init::SinCos { columns: config.grid_columns(), class, scale }
            }
        };
        let mut pos = params.add("pos_embed", &[1, rows, d], &[1, rows, d], init)?;
        if config.positions == Positions::SinCos {
            pos = Var::constant(pos.data); // fixed: no gradient, no update
        }
        let prefix = if n > 0 {
            let token = params.add("cls_token", &[1, n, d], &[1, n, d], small)?;
            let pos = separate.then(|| params.add("pos_embed_cls", &[1, n, d], &[1, n, d], small)).transpose()?;
            Some(Prefix { token, pos, count: n })
        } else {
            None
        };
        let grid = (config.grid(), config.grid_columns());
        let columns = if config.order == Order::Columns {
            let table = |places: Vec<u32>| Tensor::from_indices(g, &[l], &places);
            Some((table(config.scan())?, table(config.order.ranks(grid))?))
        } else {
            None
        };
        Ok(Self { family: config.family, patch, pos, prefix, columns, grid })
    }

    /// Whether there are registers or class tokens.
    pub fn has_prefix_tokens(&self) -> bool {
        self.prefix.is_some()
    }

    /// Rows and columns of patches.
    pub fn grid(&self) -> (usize, usize) {
        self.grid
    }

    /// Visible patches (B, V, P·P·3) → embedded with their positions (B, V, D), in the same order. `ids` and `inverse`
    /// are `MaskedBatch::visible` and `MaskedBatch::inverse`.
    pub fn visible(&self, r: &mut Recorder, patches: &Var, ids: &Tensor, inverse: &Tensor) -> Result<Var> {
        r.scope(&self.patch.name, |r| {
            let x = self.patch.forward(r, patches)?;
            let positions = self.patch_positions(r)?;
            tokens::embed(r, &x, &positions, ids, inverse)
        })
    }

    /// All patches (B, L, P·P·3) in raster order → embedded with their positions (B, L, D), in scan order.
    pub fn all(&self, r: &mut Recorder, patches: &Var) -> Result<Var> {
        r.scope(&self.patch.name, |r| {
            let x = self.patch.forward(r, patches)?;
            let positions = self.patch_positions(r)?;
            let x = tokens::add_positions(r, &x, &positions)?;
            match &self.columns {
                Some((ids, inverse)) => tokens::gather(r, &x, ids, inverse),
                None => Ok(x),
            }
        })
    }

    /// Patch tokens in scan order (B, L, D) → in raster order (B, L, D).
    pub fn to_raster(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        match &self.columns {
            Some((ids, inverse)) => tokens::gather(r, x, inverse, ids),
            None => Ok(x.clone()),
        }
    }

    /// Patch tokens (B, V, D) → the same with the prefix tokens and their positions among them (B, V+n, D).
    pub fn with_prefix_tokens(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        let Some(prefix) = &self.prefix else { return Ok(x.clone()) };
        let pos = match &prefix.pos {
            Some(pos) => pos.clone(),
            None => ops::registers::extract(r, &self.pos, self.places(self.grid.0 * self.grid.1))?,
        };
        let prefix = ops::add::add(r, &prefix.token, &pos)?; // (1, n, D)
        let [_, v, _] = x.data.dims("tokens")?;
        ops::registers::insert(r, x, &prefix, self.places(v))
    }

    /// Tokens (B, n, D) → the tokens of each image side by side (B, n·D): PyTorch's `x.flatten(1)`.
    pub fn flatten(r: &mut Recorder, tokens: &Var) -> Result<Var> {
        let [b, n, d] = tokens.data.dims("tokens")?;
        reshape(r, tokens, &[b, n * d])
    }

    /// A sequence (B, V+n, D) → its prefix tokens (B, n, D).
    pub fn prefix_tokens(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        ops::registers::extract(r, x, self.places(self.patch_tokens(x)?))
    }

    /// A sequence (B, V+n, D) → its patch tokens (B, V, D).
    pub fn patches(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        if self.prefix.is_none() {
            return Ok(x.clone());
        }
        ops::registers::rest(r, x, self.places(self.patch_tokens(x)?))
    }

    /// A sequence (B, V+n, D) → the mean of its patch tokens (B, D).
    pub fn mean(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        let patches = self.patches(r, x)?;
        ops::reduce::mean_tokens(r, &patches)
    }

    /// [`Embedding::with_prefix_tokens`] if the family's prefix tokens take part in masked pretraining, else x.
    pub(super) fn with_pretraining_prefix(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        if self.family.prefix_in_pretraining { self.with_prefix_tokens(r, x) } else { Ok(x.clone()) }
    }

    /// What [`Embedding::with_pretraining_prefix`] inserted, taken out again.
    pub(super) fn without_pretraining_prefix(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        if self.family.prefix_in_pretraining { self.patches(r, x) } else { Ok(x.clone()) }
    }

    /// The number of patch tokens V of a sequence (B, V+n, D).
    fn patch_tokens(&self, x: &Var) -> Result<usize> {
        let [_, len, _] = x.data.dims("sequence")?;
        Ok(len.saturating_sub(self.count()))
    }

    fn count(&self) -> usize {
        self.prefix.as_ref().map_or(0, |prefix| prefix.count)
    }

    /// The places of the prefix tokens among `len` patch tokens.
    fn places(&self, len: usize) -> Places {
        (self.family.places)(len, self.count())
    }

    /// The positions of the patches (1, L, D).
    fn patch_positions(&self, r: &mut Recorder) -> Result<Var> {
        match &self.prefix {
            Some(prefix) if prefix.pos.is_none() => {
                ops::registers::rest(r, &self.pos, self.places(self.grid.0 * self.grid.1))
            }
            _ => Ok(self.pos.clone()),
        }
    }
}

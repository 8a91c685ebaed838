//! From patches to a sequence: patch embedding, positions, scan order, and the model's own tokens among the patches
//! (src/models/README.md, "Patches, positions and registers"). Each family places its own tokens differently.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::config::{Config, DecoderKind, Family, Order, Positions};
use crate::nn::{Init, InitScheme, Linear, Params};
use crate::ops;
use crate::ops::registers::Places;
use crate::ops::tokens;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// The input side of a backbone.
#[derive(Debug, Clone)]
pub struct Embedding {
    family: Family,
    patch: Linear,
    /// (1, L, D); with the class token's row at its place, (1, L+1, D), in ViT and Vim
    pos: Var,
    own: Option<Own>,
    /// Column order: raster position of each token of the sequence (L), and the place of each raster position (L).
    columns: Option<(Tensor, Tensor)>,
    tokens: usize,
}

/// Registers or class tokens (1, n, D), with positions of their own in HybridNet and Mamba-R.
#[derive(Debug, Clone)]
struct Own {
    token: Var,
    pos: Option<Var>,
    count: usize,
}

impl Embedding {
    /// Parameters `patch_embed.proj`, `pos_embed`, `cls_token` and, for registers, `pos_embed_cls`.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let (d, p, l, n) = (config.width, config.patch_size, config.tokens(), config.registers);
        let small = Init::TruncNormal(0.02);
        let patch = Linear {
            weight: params.add("patch_embed.proj.weight", &[d, 3, p, p], &[d, 3 * p * p], Init::LecunNormal)?,
            bias: Some(params.add("patch_embed.proj.bias", &[d], &[d], Init::Zeros)?),
        };
        let separate = config.family == Family::Hybrid;
        let rows = if separate { l } else { l + n };
        let init = match config.positions {
            Positions::Learned => small,
            Positions::SinCos => {
                let class = (rows > l).then(|| places(config.family, l, n).first);
                Init::SinCos { columns: config.grid_columns(), class }
            }
        };
        let mut pos = params.add("pos_embed", &[1, rows, d], &[1, rows, d], init)?;
        if config.positions == Positions::SinCos {
            pos = Var::constant(pos.data); // fixed: no gradient, no update
        }
        let own = if n > 0 {
            let token = params.add("cls_token", &[1, n, d], &[1, n, d], small)?;
            let pos = separate.then(|| params.add("pos_embed_cls", &[1, n, d], &[1, n, d], small)).transpose()?;
            Some(Own { token, pos, count: n })
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
        Ok(Self { family: config.family, patch, pos, own, columns, tokens: l })
    }

    /// Visible patch rows (B, V, P·P·3) → embedded with positions (B, V, D), in the same order.
    pub fn visible(&self, g: &Gpu, t: &mut Tape, patches: &Var, ids: &Tensor, inverse: &Tensor) -> Result<Var> {
        let _scope = g.scope("patch_embed");
        let x = self.patch.forward(g, t, patches)?;
        let positions = self.patch_positions(g, t)?;
        tokens::embed(g, t, &x, &positions, ids, inverse)
    }

    /// All patch rows (B, L, P·P·3), raster order → embedded with positions (B, L, D), scan order.
    pub fn all(&self, g: &Gpu, t: &mut Tape, patches: &Var) -> Result<Var> {
        let _scope = g.scope("patch_embed");
        let x = self.patch.forward(g, t, patches)?;
        let positions = self.patch_positions(g, t)?;
        let x = tokens::add_positions(g, t, &x, &positions)?;
        match &self.columns {
            Some((ids, inverse)) => tokens::gather(g, t, &x, ids, inverse),
            None => Ok(x),
        }
    }

    /// Tokens in scan order (B, L, D) → raster order.
    pub fn to_raster(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        match &self.columns {
            Some((ids, inverse)) => tokens::gather(g, t, x, inverse, ids),
            None => Ok(x.clone()),
        }
    }

    /// The model's own tokens with their positions among others: (B, V, D) → (B, V+n, D).
    pub fn with_own(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        let Some(own) = &self.own else { return Ok(x.clone()) };
        let pos = match &own.pos {
            Some(pos) => pos.clone(),
            None => ops::registers::extract(g, t, &self.pos, self.places(self.tokens))?,
        };
        let r = ops::add::add(g, t, &own.token, &pos)?; // (1, n, D)
        let [_, v, _] = x.data.dims("tokens")?;
        ops::registers::insert(g, t, x, &r, self.places(v))
    }

    /// The model's own tokens out of a sequence: (B, V+n, D) → (B, n, D).
    pub fn own(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        ops::registers::extract(g, t, x, self.places(self.others(x)?))
    }

    /// The patch tokens out of a sequence: (B, V+n, D) → (B, V, D).
    pub fn patches(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        if self.own.is_none() {
            return Ok(x.clone());
        }
        ops::registers::rest(g, t, x, self.places(self.others(x)?))
    }

    /// The mean of the patch tokens of a sequence: (B, V+n, D) → (B, D).
    pub fn mean(&self, g: &Gpu, t: &mut Tape, x: &Var) -> Result<Var> {
        let patches = self.patches(g, t, x)?;
        ops::reduce::mean_tokens(g, t, &patches)
    }

    /// Tokens of a sequence besides the model's own.
    fn others(&self, x: &Var) -> Result<usize> {
        let [_, len, _] = x.data.dims("sequence")?;
        Ok(len.saturating_sub(self.count()))
    }

    fn count(&self) -> usize {
        self.own.as_ref().map_or(0, |own| own.count)
    }

    fn places(&self, len: usize) -> Places {
        places(self.family, len, self.count())
    }

    /// Positions of the patches (1, L, D).
    fn patch_positions(&self, g: &Gpu, t: &mut Tape) -> Result<Var> {
        match &self.own {
            Some(own) if own.pos.is_none() => ops::registers::rest(g, t, &self.pos, self.places(self.tokens)),
            _ => Ok(self.pos.clone()),
        }
    }
}

/// Where a family's own tokens stand among `len` others.
pub(crate) fn places(family: Family, len: usize, count: usize) -> Places {
    let one = match family {
        Family::Hybrid => Places::even(len, count),
        Family::Vim => Places::middle(len),
        Family::Vit => Places::front(),
    };
    Places { count, ..one }
}

/// Initial values of a linear layer outside the mixers: xavier in the MAP repository and in MAE.
pub(crate) fn linear_init(config: &Config) -> Init {
    let xavier = config.init == InitScheme::MapRepo || config.decoder.kind == DecoderKind::Mae;
    if xavier { Init::XavierUniform } else { Init::TruncNormal(0.02) }
}

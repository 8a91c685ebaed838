//! What a model is made of, and the checks every configuration has to pass. Named ones are in `registry`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where initial values come from (spec D-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum InitScheme {
    /// Mamba's own: step sizes in [0.001, 0.1] in both directions, out_proj / √depth. Our default.
    #[default]
    Mamba,
    /// The MAP repository's: xavier everywhere, all Linear biases zero, so that every step size starts at 0.693.
    MapRepo,
}

/// What kind of network encodes the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Mamba layers and transformer blocks in any order with registers: HybridNet, and Mamba-R with Mamba layers only.
    #[default]
    Hybrid,
    /// Vision Mamba: Mamba layers, one class token in the middle.
    Vim,
    /// Vision Transformer: transformer blocks, one class token in front or none.
    Vit,
}

/// The order in which the encoder's tokens follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Row by row.
    #[default]
    Rows,
    /// Column by column, top to bottom.
    Columns,
}

impl Order {
    /// Raster number of each token of a grid of `height` × `width`, in this order.
    pub fn tokens(self, (height, width): (usize, usize)) -> Vec<u32> {
        let token = |rank: usize| match self {
            Self::Rows => rank,
            Self::Columns => rank % height * width + rank / height,
        };
        (0..height * width).map(|rank| token(rank) as u32).collect()
    }

    /// The line, row or column, of each token of a grid, in raster order: lines follow each other in this order.
    pub fn lines(self, (height, width): (usize, usize)) -> Vec<u32> {
        let line = |token: usize| if self == Self::Rows { token / width } else { token % width };
        (0..height * width).map(|token| line(token) as u32).collect()
    }

    /// The place in this order of each token of a grid, in raster order.
    pub fn ranks(self, grid: (usize, usize)) -> Vec<u32> {
        let tokens = self.tokens(grid);
        let mut ranks = vec![0; tokens.len()];
        tokens.iter().enumerate().for_each(|(rank, &token)| ranks[token as usize] = rank as u32);
        ranks
    }
}

/// Position embeddings of the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Trained.
    #[default]
    Learned,
    /// Fixed sines and cosines of row and column (MAE).
    SinCos,
}

/// What the classifier reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The registers side by side, through the neck if there is one.
    #[default]
    Registers,
    /// The class token.
    Token,
    /// The mean of the patch tokens; ViT then normalises it (`fc_norm`) in place of the tokens.
    Average,
}

/// How hidden patches are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum DecoderKind {
    /// MAP's: blocks with separate norms for queries and keys, learned positions, no class token (spec 3.1).
    #[default]
    Map,
    /// MAE's: ViT blocks, fixed positions, the encoder's class token goes along (spec 3.2).
    Mae,
}

/// The reconstruction decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// Which one.
    #[serde(default)]
    pub kind: DecoderKind,
    /// Width.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// MLP width over width.
    pub mlp_ratio: f64,
}

impl Decoder {
    /// MAP's: 4 blocks of 192 for every size of encoder.
    pub fn map() -> Self {
        Self { kind: DecoderKind::Map, width: 192, depth: 4, heads: 16, mlp_ratio: 4.0 }
    }

    /// MAE's default: 8 blocks of 512.
    pub fn mae() -> Self {
        Self { kind: DecoderKind::Mae, width: 512, depth: 8, heads: 16, mlp_ratio: 4.0 }
    }
}

/// A backbone with its classifier and decoder (spec 2, 3). `config.json` of a checkpoint is this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Preset name, or what the user calls it.
    pub name: String,
    /// What kind of network.
    #[serde(default)]
    pub family: Family,
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// Width where the input is not square; `image_size` is then its height. Training reads square images only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_width: Option<usize>,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width d.
    pub width: usize,
    /// Layers in order: `M` a Mamba layer, `T` a transformer block.
    pub pattern: String,
    /// Heads of the transformer blocks.
    pub heads: usize,
    /// MLP width of the transformer blocks over d (2 in the MAP repository, 4 in ViT).
    pub mlp_ratio: f64,
    /// Whether queries, keys and values have biases.
    #[serde(default = "yes")]
    pub qkv_bias: bool,
    /// Epsilon of a ViT's layer norms, the decoder of MAE included.
    #[serde(default = "vit_eps")]
    pub norm_eps: f64,
    /// hidden + T(hidden) instead of T(hidden) in a hybrid (spec D-2, D-3).
    pub extra_residual: bool,
    /// Registers, or class tokens: 1 in Vim, 1 or 0 in ViT.
    pub registers: usize,
    /// Reduction r of the classifier's neck.
    pub cls_reduce: usize,
    /// What the classifier reads.
    #[serde(default)]
    pub pool: Pool,
    /// Classes of the head; 0 for none.
    pub classes: usize,
    /// States N per channel.
    pub states: usize,
    /// Taps of the causal convolution.
    pub conv: usize,
    /// Inner width over width.
    pub expand: usize,
    /// RMS norms around the Mamba layers, instead of layer norms.
    #[serde(default = "yes")]
    pub rms_norm: bool,
    /// The mean of both scan directions, instead of their sum.
    #[serde(default = "yes")]
    pub divide_out: bool,
    /// Scan order of the tokens.
    #[serde(default)]
    pub order: Order,
    /// Position embeddings.
    #[serde(default)]
    pub positions: Positions,
    /// DropPath probability at the last layer.
    pub drop_path: f64,
    /// Initial values.
    pub init: InitScheme,
    /// The decoder.
    pub decoder: Decoder,
}

fn yes() -> bool {
    true
}

fn vit_eps() -> f64 {
    1e-6
}

impl Config {
    /// Patches per side; rows of patches where the image is not square.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size.max(1)
    }

    /// Patches in a row.
    pub fn grid_columns(&self) -> usize {
        self.image_width.unwrap_or(self.image_size) / self.patch_size.max(1)
    }

    /// Raster numbers of the patches (L) in the order in which the encoder reads them.
    pub fn scan(&self) -> Vec<u32> {
        self.order.tokens((self.grid(), self.grid_columns()))
    }

    /// Patches per image L.
    pub fn tokens(&self) -> usize {
        self.grid() * self.grid_columns()
    }

    /// Values of a patch, P·P·3.
    pub fn patch_len(&self) -> usize {
        self.patch_size * self.patch_size * 3
    }

    /// Number of Mamba layers.
    pub fn depth(&self) -> usize {
        self.pattern.chars().filter(|&c| c == 'M').count()
    }

    /// MLP width of the transformer blocks.
    pub fn mlp_hidden(&self) -> usize {
        (self.width as f64 * self.mlp_ratio).round() as usize
    }

    /// Width F of what the head reads.
    pub fn features(&self) -> usize {
        match self.pool {
            Pool::Registers => self.registers * (self.width / self.cls_reduce.max(1)),
            Pool::Token | Pool::Average => self.width,
        }
    }

    /// DropPath probabilities, one per place where something may be dropped. With Mamba layers: the hidden that enters
    /// layer i, and last the final add; the list is 0 and then linspace(0, p, depth), so that layers 0 and 1 drop nothing
    /// (spec 11.8). In a ViT: attention and MLP of each block, linspace(0, p, depth).
    pub fn drop_path_rates(&self) -> Vec<f64> {
        let linear = |depth: usize| (0..depth).map(move |i| self.drop_path * i as f64 / (depth.max(2) - 1) as f64);
        match self.family {
            Family::Hybrid | Family::Vim => std::iter::once(0.0).chain(linear(self.depth())).collect(),
            Family::Vit => linear(self.pattern.len()).flat_map(|rate| [rate; 2]).collect(),
        }
    }

    /// Everything that must hold before anything is built.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, what: &str, got: String, expected: &str| match ok {
            true => Ok(()),
            false => Err(Error::argument(what, got, expected)),
        };
        // generous, and small enough that no product of them overflows
        let within = |what: &str, got: usize, low: usize, high: usize| {
            check((low..=high).contains(&got), what, got.to_string(), &format!("{low} to {high}"))
        };
        let ratio = |what: &str, got: f64, width: usize| {
            let fine = got > 0.0 && got <= 64.0 && (width as f64 * got) >= 1.0;
            check(fine, what, format!("{got:?}"), "a number above 0, at most 64")
        };
        within("image_size", self.image_size, 1, 4096)?;
        within("image_width", self.image_width.unwrap_or(1), 1, 4096)?;
        within("patch_size", self.patch_size, 1, 256)?;
        within("width", self.width, 1, 8192)?;
        within("registers", self.registers, 0, 1024)?;
        within("classes", self.classes, 0, 1_000_000)?;
        within("states", self.states, 1, 64)?;
        within("conv", self.conv, 1, 8)?;
        within("expand", self.expand, 1, 16)?;
        within("decoder.width", self.decoder.width, 1, 8192)?;
        within("decoder.depth", self.decoder.depth, 0, 256)?;
        within("length of pattern", self.pattern.len(), 1, 1024)?;
        ratio("mlp_ratio", self.mlp_ratio, self.width)?;
        ratio("decoder.mlp_ratio", self.decoder.mlp_ratio, self.decoder.width)?;
        for side in [self.image_size, self.image_width.unwrap_or(self.image_size)] {
            let got = format!("{side} with patches of {}", self.patch_size);
            check(side.is_multiple_of(self.patch_size), "image_size", got, "a multiple of the patch size")?;
        }
        let letters = self.pattern.chars().all(|c| c == 'M' || c == 'T');
        check(letters, "pattern", format!("`{}`", self.pattern), "a string of M and T, as MMMTMMMT")?;
        check((0.0..1.0).contains(&self.drop_path), "drop_path", self.drop_path.to_string(), "0 to below 1")?;
        let reduced = self.cls_reduce > 0 && self.width.is_multiple_of(self.cls_reduce);
        check(reduced, "cls_reduce", self.cls_reduce.to_string(), "a divisor of the width")?;
        self.validate_family()?;
        let heads = |width: usize, heads: usize| heads > 0 && width.is_multiple_of(heads) && width / heads <= 128;
        let fine = !self.pattern.contains('T') || heads(self.width, self.heads);
        check(fine, "heads", self.heads.to_string(), "a divisor of the width with at most 128 per head")?;
        let d = &self.decoder;
        let got = format!("{} at width {}", d.heads, d.width);
        check(heads(d.width, d.heads), "decoder.heads", got, "a divisor of the width with at most 128 per head")
    }

    /// What each family can be made of.
    fn validate_family(&self) -> Result<()> {
        let check = |ok: bool, what: &str, got: String, expected: &str| match ok {
            true => Ok(()),
            false => Err(Error::argument(format!("{what} of a {:?}", self.family), got, expected)),
        };
        let only = |letter| self.pattern.chars().all(|c| c == letter);
        let (pattern, registers) = match self.family {
            Family::Hybrid => (true, true),
            Family::Vim => (only('M'), self.registers == 1),
            Family::Vit => (only('T'), self.registers <= 1),
        };
        check(pattern, "pattern", format!("`{}`", self.pattern), "M only in a Vim, T only in a Vit")?;
        check(registers, "registers", self.registers.to_string(), "one class token (a Vit may have none)")?;
        let pool = match self.pool {
            Pool::Registers => self.family == Family::Hybrid,
            Pool::Token => self.family != Family::Hybrid && self.registers == 1,
            Pool::Average => true,
        };
        let got = format!("{:?} with {} registers", self.pool, self.registers);
        check(pool, "pool", got, "registers in a Hybrid, token where there is a class token, or average")?;
        let eps = self.norm_eps > 0.0 && self.norm_eps < 1.0;
        check(eps, "norm_eps", self.norm_eps.to_string(), "above 0 and below 1")?;
        let fixed = self.positions == Positions::Learned || self.width.is_multiple_of(4);
        check(fixed, "width", self.width.to_string(), "a multiple of 4 for fixed positions")?;
        let mae = self.decoder.kind == DecoderKind::Map || (self.family == Family::Vit && self.registers == 1);
        let got = format!("{:?} with {} class tokens", self.family, self.registers);
        check(mae, "encoder of MAE's decoder", got, "a Vit with a class token")?;
        let width = self.decoder.kind == DecoderKind::Map || self.decoder.width.is_multiple_of(4);
        check(width, "decoder.width", self.decoder.width.to_string(), "a multiple of 4 for fixed positions")
    }
}

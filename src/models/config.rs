//! What a model is made of. Named ones are in `registry`, what must hold in `validate`.

use serde::{Deserialize, Serialize};

use crate::nn::{Directions, InitScheme};

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
    /// The mean of the patch tokens; ViT then normalizes it (`fc_norm`) in place of the tokens.
    Average,
}

/// How hidden patches are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum DecoderKind {
    /// MAP's: blocks with separate norms for queries and keys, learned positions, no class token.
    #[default]
    Map,
    /// MAE's: ViT blocks and fixed positions; the encoder's class token takes part.
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

/// A backbone with its classifier and decoder. The `config.json` of a checkpoint holds this.
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
    /// Epsilon of a ViT's norms, the decoder of MAE included, or of the norms around Mamba layers; by default the
    /// family's (see [`Config::eps`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_eps: Option<f64>,
    /// Whether a transformer block of a hybrid computes hidden + T(hidden), as in the MAP repository, or T(hidden)
    /// (src/models/README.md, D-2 and D-3).
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
    /// How the mixers join their two scan directions. In `config.json` it is `divide_out`: true for the mean, false for
    /// the sum.
    #[serde(default, rename = "divide_out", with = "divide_out")]
    pub directions: Directions,
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

/// `Config::directions` as Mamba-R and Vim write it: a bool, since their backbones always scan both ways.
mod divide_out {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::nn::Directions;

    pub fn serialize<S: Serializer>(directions: &Directions, to: S) -> Result<S::Ok, S::Error> {
        (*directions == Directions::Mean).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Directions, D::Error> {
        bool::deserialize(from).map(|mean| if mean { Directions::Mean } else { Directions::Sum })
    }
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

    /// Epsilon of the norms: `norm_eps` if given, else 1e-6 in a ViT and 1e-5 around Mamba layers
    /// (src/models/README.md, D-20).
    pub fn eps(&self) -> f32 {
        self.norm_eps.unwrap_or(if self.family == Family::Vit { 1e-6 } else { 1e-5 }) as f32
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
    /// (src/models/README.md, "DropPath"). In a ViT: attention and MLP of each block, linspace(0, p, depth).
    pub fn drop_path_rates(&self) -> Vec<f64> {
        let linear = |depth: usize| (0..depth).map(move |i| self.drop_path * i as f64 / (depth.max(2) - 1) as f64);
        match self.family {
            Family::Hybrid | Family::Vim => std::iter::once(0.0).chain(linear(self.depth())).collect(),
            Family::Vit => linear(self.pattern.len()).flat_map(|rate| [rate; 2]).collect(),
        }
    }
}

//! The choices that a [`Config`](super::Config) makes, each by its name in `config.json`.

use serde::{Deserialize, Serialize};

/// The order of patch tokens: of the encoder's scan, or of prediction.
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
    /// The raster numbers of the tokens of a grid of `height` × `width`, listed in this order: (L).
    pub fn tokens(self, (height, width): (usize, usize)) -> Vec<u32> {
        let token = |rank: usize| match self {
            Self::Rows => rank,
            Self::Columns => rank % height * width + rank / height,
        };
        (0..height * width).map(|rank| token(rank) as u32).collect()
    }

    /// For each token in raster order, the number of its line: its row, or by columns its column. (L)
    pub fn lines(self, (height, width): (usize, usize)) -> Vec<u32> {
        let line = |token: usize| if self == Self::Rows { token / width } else { token % width };
        (0..height * width).map(|token| line(token) as u32).collect()
    }

    /// For each token in raster order, its place in this order: the inverse of [`Order::tokens`]. (L)
    pub fn ranks(self, grid: (usize, usize)) -> Vec<u32> {
        let tokens = self.tokens(grid);
        let mut ranks = vec![0; tokens.len()];
        tokens.iter().enumerate().for_each(|(rank, &token)| ranks[token as usize] = rank as u32);
        ranks
    }
}

/// How an image of any size becomes the square that a model is tested on. Each published network has its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestView {
    /// Share of the shorter side that is kept, 0 to 1: timm's `crop_pct`.
    pub crop_ratio: f64,
    /// The filter of the resize.
    pub interpolation: Interpolation,
    /// Whether the whole image is squeezed into a square before the crop, whatever its shape: timm's
    /// `crop_mode="squash"`.
    pub squash: bool,
}

impl Default for TestView {
    /// The middle 0.875 of the shorter side, bicubic.
    fn default() -> Self {
        Self::MIDDLE
    }
}

impl TestView {
    /// The default.
    pub const MIDDLE: Self = Self { crop_ratio: 0.875, interpolation: Interpolation::Bicubic, squash: false };

    /// The default with another crop ratio.
    pub fn crop(crop_ratio: f64) -> Self {
        Self { crop_ratio, ..Self::default() }
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A filter that resizes images, with antialiasing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// PIL's `BICUBIC`, a = −½.
    #[default]
    Bicubic,
    /// PIL's `BILINEAR`.
    Bilinear,
}

/// The position embeddings of the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Trained.
    #[default]
    Learned,
    /// Fixed sines and cosines of row and column (MAE).
    SinCos,
}

/// How learned positions of patches start, in the encoder and in MAP's decoder. Later they are trained in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitPositions {
    /// N(0, 0.02²), as in the official code. The decoder then invents positions before it can use them, and the loss
    /// of a pretraining stands still until it has.
    #[default]
    Normal,
    /// Sines and cosines of row and column, MAE's fixed positions.
    SinCos,
}

/// What the classifier's head reads: timm's `global_pool`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The registers side by side, through the neck if there is one.
    #[default]
    Registers,
    /// The class token: timm's `token`.
    Token,
    /// The mean of the patch tokens. A ViT then normalizes the mean (`fc_norm`) and not the tokens: timm's `avg`.
    Average,
}

/// Which decoder reconstructs hidden patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum DecoderKind {
    /// MAP's: blocks with separate norms for queries and keys, learned positions, no class token.
    #[default]
    Map,
    /// MAE's: ViT blocks and fixed positions; the encoder's class token takes part.
    Mae,
}

/// The decoder of pretraining.
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
    /// Width of the MLP over the decoder's width.
    pub mlp_ratio: f64,
}

impl Decoder {
    /// MAP's: 4 blocks of 192 for every size of encoder.
    pub fn map() -> Self {
        Self { kind: DecoderKind::Map, width: 192, depth: 4, heads: 16, mlp_ratio: 4.0 }
    }

    /// ARM's: 4 blocks of 512 with heads of 64. `kind` does not count there.
    pub fn arm() -> Self {
        Self { kind: DecoderKind::Map, width: 512, depth: 4, heads: 8, mlp_ratio: 4.0 }
    }

    /// MAE's default: 8 blocks of 512.
    pub fn mae() -> Self {
        Self { kind: DecoderKind::Mae, width: 512, depth: 8, heads: 16, mlp_ratio: 4.0 }
    }
}

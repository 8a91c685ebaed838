//! What a model is made of: presets by the field's names, and the checks every configuration has to pass.

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

/// The reconstruction decoder of MAP (spec 3.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// Width.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// MLP width over width.
    pub mlp_ratio: f64,
}

/// A HybridNet with its decoder (spec 2.3, 3.1). `config.json` of a checkpoint is this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Preset name, or what the user calls it.
    pub name: String,
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width d.
    pub width: usize,
    /// Layers in order: `M` a Mamba layer, `T` a transformer block.
    pub pattern: String,
    /// Heads of the transformer blocks.
    pub heads: usize,
    /// MLP width of the transformer blocks over d (2 in the MAP repository).
    pub mlp_ratio: f64,
    /// hidden + T(hidden) instead of T(hidden) (spec D-2, D-3).
    pub extra_residual: bool,
    /// Registers (class tokens) of the classifier.
    pub registers: usize,
    /// Reduction r of the classifier's neck.
    pub cls_reduce: usize,
    /// Classes of the head; 0 for none.
    pub classes: usize,
    /// States N per channel.
    pub states: usize,
    /// Taps of the causal convolution.
    pub conv: usize,
    /// Inner width over width.
    pub expand: usize,
    /// DropPath probability at the last layer.
    pub drop_path: f64,
    /// Initial values.
    pub init: InitScheme,
    /// The decoder.
    pub decoder: Decoder,
}

/// name, d, M layers, heads, registers, r, decoder width, decoder depth, decoder heads, patch, image
type Row = (&'static str, usize, usize, usize, usize, usize, usize, usize, usize, usize, usize);

const PRESETS: &[Row] = &[
    ("micro", 64, 6, 4, 4, 1, 64, 2, 4, 8, 64),
    ("tiny", 192, 24, 12, 12, 1, 192, 4, 16, 16, 224),
    ("small", 384, 24, 12, 12, 2, 192, 4, 16, 16, 224),
    ("base", 768, 24, 12, 12, 4, 192, 4, 16, 16, 224),
    ("large", 1024, 48, 16, 16, 8, 192, 4, 16, 16, 224),
    ("huge", 1536, 36, 12, 16, 8, 192, 4, 16, 16, 224),
];

impl Config {
    /// Names of the presets.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|row| row.0)
    }

    /// A preset by name: `micro` is ours, the others are the paper's.
    pub fn preset(name: &str) -> Result<Self> {
        let row = PRESETS.iter().find(|row| row.0 == name).ok_or_else(|| {
            let known: Vec<_> = Self::presets().collect();
            Error::argument("model", format!("`{name}`"), format!("one of {}", known.join(", ")))
        })?;
        let &(_, width, depth, heads, registers, cls_reduce, decoder_width, decoder_depth, decoder_heads, patch, image) =
            row;
        let micro = name == "micro";
        Ok(Self {
            name: name.into(),
            image_size: image,
            patch_size: patch,
            width,
            pattern: "MMMT".repeat(depth / 3),
            heads,
            mlp_ratio: 2.0,
            extra_residual: true,
            registers,
            cls_reduce,
            classes: if micro { 10 } else { 1000 },
            states: 16,
            conv: 4,
            expand: 2,
            drop_path: if micro { 0.0 } else { 0.1 },
            init: InitScheme::default(),
            decoder: Decoder { width: decoder_width, depth: decoder_depth, heads: decoder_heads, mlp_ratio: 4.0 },
        })
    }

    /// Patches per side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size.max(1)
    }

    /// Patches per image L.
    pub fn tokens(&self) -> usize {
        self.grid() * self.grid()
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

    /// DropPath probability of the hidden that enters Mamba layer `i`; `i == depth` is the final add.
    /// The list is 0 and then linspace(0, p, depth), so that layers 0 and 1 drop nothing (spec 11.8).
    pub fn drop_path_at(&self, i: usize) -> f64 {
        match (i, self.depth()) {
            (0, _) => 0.0,
            (_, depth) if depth < 2 => 0.0,
            (i, depth) => self.drop_path * (i - 1) as f64 / (depth - 1) as f64,
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
        let whole = self.image_size.is_multiple_of(self.patch_size);
        let got = format!("{} with patches of {}", self.image_size, self.patch_size);
        check(whole, "image_size", got, "a multiple of the patch size")?;
        let letters = self.pattern.chars().all(|c| c == 'M' || c == 'T');
        check(letters, "pattern", format!("`{}`", self.pattern), "a string of M and T, as MMMTMMMT")?;
        check((0.0..1.0).contains(&self.drop_path), "drop_path", self.drop_path.to_string(), "0 to below 1")?;
        let reduced = self.cls_reduce > 0 && self.width.is_multiple_of(self.cls_reduce);
        check(reduced, "cls_reduce", self.cls_reduce.to_string(), "a divisor of the width")?;
        let heads = |width: usize, heads: usize| heads > 0 && width.is_multiple_of(heads) && width / heads <= 128;
        let fine = !self.pattern.contains('T') || heads(self.width, self.heads);
        check(fine, "heads", self.heads.to_string(), "a divisor of the width with at most 128 per head")?;
        let d = &self.decoder;
        let got = format!("{} at width {}", d.heads, d.width);
        check(heads(d.width, d.heads), "decoder.heads", got, "a divisor of the width with at most 128 per head")
    }
}

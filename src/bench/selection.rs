//! The selection of cases: the shapes of the models, and the filters of the command line.

use std::fmt;

use serde_json::{Value, json};

use crate::gpu::Precision;

/// The shape (B, L, D) of a batch of token sequences inside a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Size of HybridNet: "tiny", "small", "base" or "large".
    pub model: &'static str,
    /// Images in the batch.
    pub b: usize,
    /// Tokens per image.
    pub l: usize,
    /// Width: features per token.
    pub d: usize,
    /// Attention heads.
    pub heads: usize,
}

/// Name, width and attention heads of each size of HybridNet.
const MODELS: [(&str, usize, usize); 4] =
    [("tiny", 192, 12), ("small", 384, 12), ("base", 768, 12), ("large", 1024, 16)];
/// Tokens per image: half the patches of an image of 224², all of them with 12 registers, and those of an image of 384²
/// with 16 registers.
const LENGTHS: [usize; 3] = [98, 208, 592];
/// Images in a batch, for training and for inference.
const BATCHES: [usize; 2] = [128, 1];

impl Shape {
    /// Inner width of the Mamba mixer, E = 2D.
    pub fn e(&self) -> usize {
        2 * self.d
    }
    /// Tokens in the batch, B·L.
    pub fn rows(&self) -> usize {
        self.b * self.l
    }
    /// The shape as a fact of a case.
    pub fn json(&self) -> Value {
        json!({ "model": self.model, "batch": self.b, "tokens": self.l, "width": self.d, "heads": self.heads })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}x{}", self.model, self.l, self.b)
    }
}

/// The cases to run: the options `--quick`, `--family`, `--size`, `--batch` and `--tokens` of `rowscan bench`.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Use small batches and few shapes. That is enough to show that every case runs and is right, also on a CPU.
    pub quick: bool,
    /// Names of the families; empty for all.
    pub families: Vec<String>,
    /// Sizes of the model; empty for all.
    pub sizes: Vec<String>,
    /// Images in a batch; empty for the default values.
    pub batches: Vec<usize>,
    /// Tokens per image; empty for the default values.
    pub lengths: Vec<usize>,
    /// Precision of matrix products.
    pub precision: Precision,
}

impl Scope {
    /// A width that is a multiple of no tile. It is odd in f32; in mixed precision it is a multiple of 4, because
    /// models store f16 only for such widths.
    pub fn awkward(&self) -> usize {
        if self.precision == Precision::Mixed { 68 } else { 67 }
    }

    /// Names of the model sizes.
    pub fn known_sizes() -> [&'static str; 4] {
        MODELS.map(|m| m.0)
    }

    /// The largest batch size.
    pub fn batch(&self) -> usize {
        self.batches().first().copied().unwrap_or(1)
    }

    /// The batch sizes, the largest first.
    pub fn batches(&self) -> Vec<usize> {
        let usual = if self.quick { vec![2, 1] } else { BATCHES.to_vec() };
        let mut batches = if self.batches.is_empty() { usual } else { self.batches.clone() };
        batches.sort_unstable_by(|a, b| b.cmp(a));
        batches.dedup();
        batches
    }

    /// Every model size at every length and batch size. With `quick`, three shapes, unless lengths or batches are
    /// given.
    pub fn shapes(&self) -> Vec<Shape> {
        let lengths = if self.lengths.is_empty() { LENGTHS.to_vec() } else { self.lengths.clone() };
        let mut all = Vec::new();
        for &b in &self.batches() {
            for &l in &lengths {
                all.extend(MODELS.map(|(model, d, heads)| Shape { model, b, l, d, heads }));
            }
        }
        if self.quick && self.lengths.is_empty() && self.batches.is_empty() {
            let few = [("tiny", 98, 2), ("small", 208, 2), ("base", 208, 1)];
            all.retain(|s| few.contains(&(s.model, s.l, s.b)));
        }
        all.retain(|s| self.sizes.is_empty() || self.sizes.iter().any(|size| size == s.model));
        all
    }

    /// Fewer shapes, for families limited by memory bandwidth alone: each model size at a training shape (98 tokens, a
    /// batch of images) and at an inference shape (208 tokens, one image). Shapes that the user or `quick` chose stay.
    pub fn few(&self) -> Vec<Shape> {
        let all = self.shapes();
        let kept = |s: &Shape| self.quick || !self.lengths.is_empty() || (s.l < 196) == (s.b > 1) && s.l < 300;
        all.into_iter().filter(kept).collect()
    }

    /// Name and number of parameters of each backbone, rounded to millions.
    pub fn parameters(&self) -> Vec<(&'static str, usize)> {
        let all = if self.quick { vec![("tiny/9", 1)] } else { vec![("tiny", 9), ("small", 34), ("base", 134)] };
        let wanted =
            |name: &str| self.sizes.is_empty() || self.sizes.iter().any(|size| name.starts_with(size.as_str()));
        all.into_iter().filter(|(name, _)| wanted(name)).map(|(name, millions)| (name, millions * 1_000_000)).collect()
    }

    /// Whether a family is selected.
    pub fn wants(&self, family: &str) -> bool {
        self.families.is_empty() || self.families.iter().any(|f| f == family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paper_s_shapes_and_what_filters_leave() {
        let all = Scope::default().shapes();
        assert_eq!(all.len(), 4 * 3 * 2);
        assert!(all.iter().any(|s| s.to_string() == "large 592x128" && s.heads == 16));
        let few = Scope { sizes: vec!["base".into()], batches: vec![8], ..Scope::default() };
        let names: Vec<String> = few.shapes().iter().map(Shape::to_string).collect();
        assert_eq!(names, ["base 98x8", "base 208x8", "base 592x8"]);
        let quick = Scope { quick: true, ..Scope::default() };
        assert_eq!(quick.shapes().len(), 3);
        assert_eq!(Scope::default().few().len(), 8);
    }
}

//! Which cases: the models' shapes, and what the user leaves of them.

use std::fmt;

use serde_json::{Value, json};

use crate::gpu::Precision;

/// A batch of token sequences in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// HybridNet's size.
    pub model: &'static str,
    /// Images.
    pub b: usize,
    /// Tokens of an image.
    pub l: usize,
    /// Width.
    pub d: usize,
    /// Attention heads.
    pub heads: usize,
}

/// HybridNet: name, width, heads.
const MODELS: [(&str, usize, usize); 4] =
    [("tiny", 192, 12), ("small", 384, 12), ("base", 768, 12), ("large", 1024, 16)];
/// Tokens of half an image of 224², of a whole one with 12 registers, and of one of 384² with 16.
const LENGTHS: [usize; 3] = [98, 208, 592];
/// Images of a step, and of an inference.
const BATCHES: [usize; 2] = [128, 1];

impl Shape {
    /// Inner width of the Mamba mixer.
    pub fn e(&self) -> usize {
        2 * self.d
    }
    /// Tokens of the batch.
    pub fn rows(&self) -> usize {
        self.b * self.l
    }
    /// As a fact of a case.
    pub fn json(&self) -> Value {
        json!({ "model": self.model, "batch": self.b, "tokens": self.l, "width": self.d, "heads": self.heads })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}x{}", self.model, self.l, self.b)
    }
}

/// Which cases run: the options `--quick`, `--family`, `--model` and the like of `rowscan bench`.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Small batches and few shapes: shows that every case runs and is right, also on a CPU.
    pub quick: bool,
    /// Families by name; all if empty.
    pub families: Vec<String>,
    /// Sizes of the model; all if empty.
    pub sizes: Vec<String>,
    /// Batch sizes; the usual ones if empty.
    pub batches: Vec<usize>,
    /// Tokens of an image; the usual ones if empty.
    pub lengths: Vec<usize>,
    /// How products are computed.
    pub precision: Precision,
}

impl Scope {
    /// A width that fits no tile: odd, but in mixed precision, where models store f16 for whole quads only.
    pub fn awkward(&self) -> usize {
        if self.precision == Precision::Mixed { 68 } else { 67 }
    }

    /// Names of the sizes.
    pub fn known_sizes() -> [&'static str; 4] {
        MODELS.map(|m| m.0)
    }

    /// Images of the largest batch.
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

    /// Every model at every length and batch; one each of a few lengths if `quick`.
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

    /// For families whose time is bytes alone: each model at its training and its inference shape.
    pub fn few(&self) -> Vec<Shape> {
        let all = self.shapes();
        let kept = |s: &Shape| self.quick || !self.lengths.is_empty() || (s.l < 196) == (s.b > 1) && s.l < 300;
        all.into_iter().filter(kept).collect()
    }

    /// The backbones by size, and their parameters, rounded to millions.
    pub fn parameters(&self) -> Vec<(&'static str, usize)> {
        let all = if self.quick { vec![("tiny/9", 1)] } else { vec![("tiny", 9), ("small", 34), ("base", 134)] };
        let wanted =
            |name: &str| self.sizes.is_empty() || self.sizes.iter().any(|size| name.starts_with(size.as_str()));
        all.into_iter().filter(|(name, _)| wanted(name)).map(|(name, millions)| (name, millions * 1_000_000)).collect()
    }

    /// Whether a family is wanted.
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

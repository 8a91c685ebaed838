//! Sources that a compiler has seen already: it would make the same of them again, so a sampled run leaves most out.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A short sum of texts. If a release of Rust computes other sums, everything is compiled once more.
pub fn sum<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = DefaultHasher::new();
    texts.into_iter().for_each(|text| text.hash(&mut hasher));
    format!("{:016x}", hasher.finish())
}

/// Of the variants whose sources were compiled before, a sampled run compiles one in so many.
const SHARE: u64 = 8;

/// Whether a variant is among those that `seed` draws.
pub fn is_drawn(seed: u64, variant: &str) -> bool {
    let mut hasher = DefaultHasher::new();
    (seed, variant).hash(&mut hasher);
    hasher.finish().is_multiple_of(SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_tell_texts_apart() {
        assert_eq!(sum(["a", "b"]), sum(["a", "b"]));
        assert_ne!(sum(["a", "b"]), sum(["ab"]));
        assert_ne!(sum(["a", "b"]), sum(["b", "a"]));
    }

    #[test]
    fn every_variant_is_drawn_on_some_day_and_most_are_not_on_one() {
        let days = (0..100).filter(|&day| is_drawn(day, "add.forward -")).count();
        assert!((5..25).contains(&days), "{days} of 100");
        let variants = (0..1000).filter(|i| is_drawn(7, &format!("matmul.tiled TILE_M={i}"))).count();
        assert!((90..160).contains(&variants), "{variants} of 1000");
    }
}

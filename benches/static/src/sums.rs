//! Sources that a compiler has seen already: it would make the same of them again, so a sampled run leaves most out.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A short sum of texts. If a release of Rust computes other sums, everything is compiled once more.
pub fn sum<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = DefaultHasher::new();
    texts.into_iter().for_each(|text| text.hash(&mut hasher));
    format!("{:016x}", hasher.finish())
}

/// What stands between a WGSL source and what a driver gets, of which the sum of a source has to be too: the version of
/// naga, what the library takes out of a source, and `writer`, the file here that calls naga.
pub fn between(writer: &str) -> String {
    let lock = include_str!("../../../Cargo.lock");
    let naga = lock.split("[[package]]").find(|package| package.contains("name = \"naga\"\n")).unwrap_or_default();
    format!("{naga}{}{writer}", include_str!("../../../src/gpu/disk/branches.rs"))
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
    fn a_translation_is_that_of_a_version() {
        let naga = between("");
        assert!(naga.contains("version = \"30."), "{}", naga.lines().take(4).collect::<String>());
        assert_ne!(naga, between("// another writer"));
    }

    #[test]
    fn every_variant_is_drawn_on_some_day_and_most_are_not_on_one() {
        let days = (0..100).filter(|&day| is_drawn(day, "add.forward -")).count();
        assert!((5..25).contains(&days), "{days} of 100");
        let variants = (0..1000).filter(|i| is_drawn(7, &format!("matmul.tiled TILE_M={i}"))).count();
        assert!((90..160).contains(&variants), "{variants} of 1000");
    }
}

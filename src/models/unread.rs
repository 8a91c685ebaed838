//! The options of a model that a family or a method does not look at, by their names on the command line. The lists
//! are in [`FamilyFacts::unread`](super::FamilyFacts::unread) and [`MethodFacts::unread`](super::MethodFacts::unread).

use super::config::Family;

/// Options of the decoder of pretraining, its kind first.
pub const OF_DECODERS: &[&str] = &["decoder", "decoder-width", "decoder-depth", "decoder-heads", "mask-token-std"];
/// Options of networks whose layers all have the same width, and tokens with positions.
pub(super) const OF_TOKENS: &[&str] =
    &["patch-size", "pattern", "heads", "extra-residual", "positions", "init-positions", "position-scale"];
/// Options of Mamba layers.
pub(super) const OF_SCANS: &[&str] = &["states"];
/// Options of transformer blocks.
pub(super) const OF_ATTENTION: &[&str] = &["heads", "mlp-ratio", "extra-residual"];

/// What images have, and what clouds have.
const OF_IMAGES: &[&str] = &["image-size", "patch-size"];
const OF_CLOUDS: &[&str] = &["num-points", "num-groups", "group-size"];

impl Family {
    /// Whether its networks depend on an option of a model.
    pub fn reads(self, option: &str) -> bool {
        let other = if self.clouds { OF_IMAGES } else { OF_CLOUDS };
        !other.contains(&option) && !self.unread.iter().any(|options| options.contains(&option))
    }
}

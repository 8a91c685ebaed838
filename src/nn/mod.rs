//! Parameters, and layers that are parameters plus calls to operators.

mod attention;
mod init;
mod linear;
mod mismatch;
mod mixer;
mod norm;
mod params;

pub use attention::{Block, BlockConfig, CrossBlock};
pub use init::{Init, stable_hash};
pub use linear::Linear;
pub use mismatch::Mismatch;
pub use mixer::{Mixer, MixerConfig};
pub use norm::{LayerNorm, ResidualNorm, RmsNorm};
pub use params::{Entry, Flat, Params, Part, Weights};

//! Parameters, and layers that are parameters plus calls to operators.

mod attention;
mod init;
mod linear;
mod mixer;
mod norm;
mod params;

pub use attention::{Block, BlockConfig, CrossBlock};
pub use init::Init;
pub use linear::Linear;
pub use mixer::{Mixer, MixerConfig};
pub use norm::{LayerNorm, RmsNorm};
pub use params::{Entry, Flat, Params, Part, Weights};

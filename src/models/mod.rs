//! Models and methods, one paper a file.

mod config;
mod hybridnet;
mod map;
mod positions;

pub use config::{Config, Decoder, InitScheme};
pub use hybridnet::HybridNet;
pub use map::{Batch, Map, Outputs};
pub use positions::resize_positions;

//! Models and methods, one paper a file.

mod adapt;
mod backbone;
mod batch;
mod classifier;
mod config;
mod contents;
mod embedding;
mod hybridnet;
mod layers;
mod mae;
mod map;
mod positions;
mod registry;
mod transformers;
mod vim;
mod vit;

pub use adapt::{Adapted, adapt};
pub use backbone::Backbone;
pub use batch::Batch;
pub use classifier::{Classifier, Prediction, layer_of};
pub use config::{Config, Decoder, DecoderKind, Family, InitScheme, Order, Pool, Positions};
pub use contents::{Contents, contents};
pub use embedding::Embedding;
pub use hybridnet::HybridNet;
pub use layers::Layers;
pub use mae::Mae;
pub use map::{Map, Outputs};
pub use positions::resize_positions;
pub use registry::models;
pub use transformers::{from_transformers, our_name};
pub use vim::Vim;
pub use vit::Vit;

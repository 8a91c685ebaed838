//! Models and methods, one paper a file.

mod backbones;
mod batch;
mod classifier;
mod config;
mod methods;
mod presets;
mod validate;
mod weights;

pub use crate::nn::InitScheme;
pub use backbones::Backbone;
pub use backbones::embedding::Embedding;
pub use backbones::hybridnet::HybridNet;
pub use backbones::layers::Layers;
pub use backbones::positions::resize_positions;
pub use backbones::vim::Vim;
pub use backbones::vit::Vit;
pub use batch::MaskedBatch;
pub use classifier::{Classifier, Prediction, layer_of};
pub use config::{Config, Decoder, DecoderKind, Family, Order, Pool, Positions};
pub use methods::contrastive::Contrastive;
pub use methods::diffusion::Diffusion;
pub use methods::mae::Mae;
pub use methods::map::{Map, Reconstruction};
pub use methods::objective::{DecoderMask, Method, Objective, Target};
pub use methods::region_decoder::RegionDecoder;
pub use methods::{Pretext, StepResult};
pub use presets::models;
pub use weights::adapt::{Adapted, adapt};
pub use weights::hugging_face::{from_transformers, our_name};
pub use weights::kind::{Contents, contents};

//! Models: backbones, classifier and pretraining methods, one paper a file.
//!
//! A [`Config`] says what a model is made of. [`backbone`] builds the [`Encoder`] of any [`Family`], [`Classifier`]
//! puts a head on it, and [`pretext_model`] builds encoder and [`Method`] for pretraining.

mod backbones;
mod batch;
mod classifier;
mod config;
pub mod dense;
mod detector;
mod features;
mod hierarchy;
mod methods;
mod options;
mod point_head;
mod points;
mod presets;
mod segmenter;
mod unread;
mod validate;
mod weights;

pub use crate::nn::{Directions, InitScheme};
pub use backbones::convnext::ConvNext;
pub use backbones::efficientnet::EfficientNet;
pub use backbones::embedding::Embedding;
pub use backbones::encoder::{Encoder, Purpose, TokenEncoder};
pub use backbones::hybridnet::HybridNet;
pub use backbones::layers::Layers;
pub use backbones::mambavision::MambaVision;
pub use backbones::on_maps::{Hidden, MapEncoder, OnMaps};
pub use backbones::points::PointEncoder;
pub use backbones::positions::resize_positions;
pub use backbones::resnet::ResNet;
pub use backbones::vim::Vim;
pub use backbones::vit::Vit;
pub use backbones::{Backbone, backbone};
pub use batch::MaskedBatch;
pub use classifier::{Classifier, Prediction, layer_of};
pub use config::{Adapt, Config, Detect, Family, FamilyFacts, MapPreset, Preset};
pub use detector::{DetectionLosses, Detector, Proposed};
pub use hierarchy::{Hierarchy, Stage};
pub use methods::ar_shift::ArShift;
pub use methods::arm::ArmPretraining;
pub use methods::contrastive::Contrastive;
pub use methods::diffusion::Diffusion;
pub use methods::mae::Mae;
pub use methods::map::Map;
pub use methods::map_on_maps::MapOnMaps;
pub use methods::objective::{DecoderMask, Method, MethodFacts, Objective, Target};
pub use methods::points::PointPretraining;
pub use methods::pretext::{Denoiser, PixelPretext, PointReconstruction, Pretext, Reconstruction, StepResult};
pub use methods::pretext_model;
pub use methods::region_decoder::RegionDecoder;
pub use options::{Decoder, DecoderKind, InitPositions, Interpolation, Order, Pool, Positions, TestView};
pub use point_head::PointHead;
pub use points::{PointLoss, PointMixers, Points};
pub use presets::models;
pub use segmenter::Segmenter;
pub use unread::OF_DECODERS;
pub use weights::adapt::{Adapted, adapt, adapt_to_pretrain};
pub use weights::format::Kind;
pub use weights::hugging_face::{from_transformers, is_of_transformers, leave_out_unused, our_name};
pub use weights::kind::{Contents, contents};
pub use weights::prefix::without_prefix;
#[cfg(test)]
pub(crate) use weights::pytorch::fuzz::runner;
pub use weights::pytorch::{StateDict, read_pytorch};

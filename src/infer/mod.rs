//! Inference with trained models: features, reconstructions, samples, attention maps, scores, predictions.

pub mod attention_maps;
pub mod diffusion_sampler;
pub mod features;
pub mod predict;
pub mod program;
pub mod reconstruct;
pub mod scores;

//! Inference with trained models: features and probes of them, reconstructions, samples, attention maps, states of
//! scans, scores, predictions.

pub mod attention_maps;
pub mod class_color;
pub mod coco_scores;
#[cfg(feature = "files")]
pub mod detect;
pub mod diffusion_sampler;
pub mod features;
pub mod paste;
pub mod pca;
pub mod predict;
pub mod probe;
pub mod program;
pub mod reconstruct;
pub mod reconstruct_clouds;
pub mod scan_path;
pub mod scores;
pub mod segment;
pub mod segmentation_scores;
pub mod sliding_window;
pub mod vote;

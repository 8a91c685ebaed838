//! Data, masks, schedule, the loop and its records.
pub mod checkpoint;
pub mod data;
pub mod features;
pub mod import;
pub mod mask;
pub mod optimizer;
pub mod output_dir;
pub mod pretrain;
pub mod progress;
pub mod reconstruct;
pub mod record;
pub mod rng;
pub mod schedule;
pub mod settings;
pub mod step;
pub mod weights_file;

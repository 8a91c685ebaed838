//! Data, masks, schedule, the loop and its records.
pub mod data;
pub mod mask;
pub mod progress;
pub mod record;
pub mod rng;
pub mod schedule;

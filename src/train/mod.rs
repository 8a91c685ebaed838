//! One training step: settings, masks, schedule, optimizer, loss scale, memory check, and checkpoints as bytes. The
//! loop over a data set is in [`run`](crate::run).

pub mod about;
pub mod checkpoint;
mod collected;
pub mod cuts;
pub mod dense_recipes;
mod depth;
#[cfg(feature = "files")]
pub mod detect;
pub mod drop_path;
pub mod exchange;
pub mod finetune;
pub mod image_input;
pub mod loss_scaler;
pub mod memory_check;
pub mod optimizer;
pub mod options;
pub mod pretrain;
pub mod schedule;
pub mod segment;
pub mod settings;
mod statistics;
pub mod sums;
pub mod supervised;
pub mod update;
pub mod weights_file;

#[cfg(test)]
pub(crate) mod fuzz;

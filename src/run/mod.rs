//! Runs over data sets: the loop, its tasks, and what they leave on disk.

pub mod checkpoint;
pub mod finetune;
pub mod import;
mod main_loop;
pub mod observer;
pub mod output_dir;
mod pass;
pub mod pretrain;
pub mod probe;
mod progress;
pub mod record;
mod resume;
mod task;
pub mod weights_on_disk;

pub use main_loop::{Ended, Outputs, Run, open_data};
pub use observer::{Observer, Silent};
pub use task::{Task, TaskSettings, Tested};

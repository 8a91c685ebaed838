//! Runs over data sets: the loop, its tasks, checkpoints and records. `README.md` beside this file explains them, and
//! says how to add an option or a command.

mod backbone;
pub mod checkpoint;
pub mod detect;
pub mod export;
pub mod finetune;
pub mod import;
mod main_loop;
pub mod observer;
pub mod output_dir;
pub mod outputs;
mod pass;
pub mod pictures;
pub mod predict;
pub mod pretrain;
pub mod probe;
mod progress;
pub mod record;
mod resume;
pub mod segment;
mod shared;
pub mod supervised;
mod task;
mod tested;
pub mod weights_on_disk;
pub mod world;

pub use backbone::load_backbone;
pub use main_loop::{Ended, Run, open_data, open_labeled};
pub use observer::{Observer, RunFacts, Silent};
pub use outputs::{Outputs, RecordSettings};
pub use task::{Surroundings, Task, TaskSettings};
pub use tested::{ObjectTest, PixelTest, Tested};

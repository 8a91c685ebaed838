//! What a run leaves behind: a log, TensorBoard events, a loss curve, pictures.
mod atomic;
mod confusion;
mod curve;
mod grid;
mod log;
mod tfevents;

pub use atomic::write_atomic;
pub use confusion::confusion_matrix;
pub use curve::{Curve, curves, loss_curve};
pub use grid::{Grid, Panel};
pub use log::{Line, LogLine, TestLine, TrainLog, read_log, read_tests};
pub use tfevents::EventFile;

//! What a run leaves behind: a log, TensorBoard events, a loss curve, pictures.
mod atomic;
mod curve;
mod grid;
mod log;
mod tfevents;

pub use atomic::write_atomic;
pub use curve::loss_curve;
pub use grid::{Grid, Panel};
pub use log::{LogLine, TrainLog, read_log};
pub use tfevents::EventFile;

//! What a run leaves behind: a log, TensorBoard events, a loss curve, pictures.
pub mod atomic;
pub mod captions;
pub mod confusion;
pub mod grid;
pub mod log;
pub(crate) mod markup;
pub mod objects;
pub mod overlay;
pub mod tfevents;

pub use atomic::{LineFile, expect_folders, write_atomic};
pub use captions::{CaptionBar, CaptionedGrid};
pub use confusion::confusion_matrix;
pub use grid::{Panel, PictureGrid};
pub use log::{
    Line, LogLine, ObjectLine, PixelLine, ProbeLine, TestLine, TrainLog, read_lines, read_log, read_probes, read_tests,
};
pub use objects::ObjectPicture;
pub use overlay::Overlay;
pub use tfevents::EventFile;

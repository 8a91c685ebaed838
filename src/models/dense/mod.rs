//! Dense tasks: boxes and masks of objects, classes of pixels.

pub mod nms;

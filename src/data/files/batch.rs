//! The images of a training step, or of a part of an evaluation.

use crate::data::cursor::Cursor;
use crate::data::object_view::SeenObjects;

/// A batch of images, ready to be uploaded.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageBatch {
    /// Number of the batch, counted from the start of the run over all epochs.
    pub index: u64,
    /// Place of the batch in the run. To go on after this batch, start at the next one.
    pub cursor: Cursor,
    /// (crops · B, S, S, 3) bytes in sRGB, where B is `samples.len()`: all first crops, then all second crops. The GPU
    /// normalizes them.
    pub images: Vec<u8>,
    /// (B) labels; empty for a set without labels.
    pub labels: Vec<u32>,
    /// (B) the objects that a detector learns from; empty for other networks.
    pub objects: Vec<SeenObjects>,
    /// (B) positions in the data set. In training a broken sample is replaced, and this is the position of its
    /// replacement. In evaluation it is left out, so that B may be smaller than the batch size.
    pub samples: Vec<usize>,
}

//! Images of a step.

use crate::data::cursor::Cursor;

/// Images ready for upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageBatch {
    /// Number of the batch since the start of the run, over all epochs.
    pub index: u64,
    /// Where the batch stands; going on after it means starting at the one after.
    pub cursor: Cursor,
    /// (crops · B, S, S, 3) bytes, sRGB, not normalized; B is `samples.len()`. All first crops, then all second ones.
    pub images: Vec<u8>,
    /// (B) class numbers; empty for a set without labels.
    pub labels: Vec<u32>,
    /// (B) positions in the data set; a broken image's place is taken by its replacement.
    pub samples: Vec<usize>,
}

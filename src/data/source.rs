//! What a layout has to offer to be a data set.
use super::error::DataError;

/// An image as rows of (r, g, b) bytes, sRGB, top row first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    /// Pixels per row.
    pub width: u32,
    /// Number of rows.
    pub height: u32,
    /// height × width × 3 bytes.
    pub pixels: Vec<u8>,
}

/// Images in a fixed order. Methods take positions below `len`, from any thread.
pub(crate) trait Source: Send + Sync {
    /// Number of samples, at least 1.
    fn len(&self) -> usize;
    /// Class names, or empty.
    fn classes(&self) -> &[String];
    /// Class of a sample; `None` without labels or past the end.
    fn label(&self, index: usize) -> Option<u32>;
    /// Where a sample comes from, for messages.
    fn name(&self, index: usize) -> String;
    /// Reads and decodes a sample.
    fn image(&self, index: usize) -> Result<Rgb8, DataError>;
}

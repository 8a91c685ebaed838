//! One image file that belongs to no data set.
use super::decode;
use super::transform::{Scratch, Transform};
use crate::data::stream::{Stream, StreamPurpose};
use crate::error::DataError;
use std::path::Path;

/// Decodes the file at `path` and transforms it to (S, S, 3) bytes. Random choices are those of seed 0.
///
/// # Errors
/// A file that cannot be read or decoded, a transform out of range.
pub fn load_image(path: &Path, transform: &Transform) -> Result<Vec<u8>, DataError> {
    transform.check()?;
    let bytes = std::fs::read(path).map_err(DataError::io("read", path))?;
    let image = decode::decode(&path.display().to_string(), &bytes)?;
    let side = transform.size() as usize;
    let mut out = vec![0; side * side * 3];
    transform.apply(&image, &mut Stream::new(StreamPurpose::Augment, [0; 3]), &mut Scratch::default(), &mut out)?;
    Ok(out)
}

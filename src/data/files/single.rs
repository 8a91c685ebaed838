//! One image file, outside of any set.
use super::decode;
use super::transform::{Scratch, Transform};
use crate::data::stream::{Purpose, Stream};
use crate::error::DataError;
use std::path::Path;

/// Decodes the file at `path` and brings it to (S, S, 3) bytes.
pub fn load_image(path: &Path, transform: &Transform) -> Result<Vec<u8>, DataError> {
    transform.check()?;
    let bytes = std::fs::read(path).map_err(DataError::io("read", path))?;
    let image = decode::decode(&path.display().to_string(), &bytes)?;
    let side = transform.size() as usize;
    let mut out = vec![0; side * side * 3];
    transform.apply(&image, &mut Stream::new(Purpose::Augment, [0; 3]), &mut Scratch::default(), &mut out)?;
    Ok(out)
}

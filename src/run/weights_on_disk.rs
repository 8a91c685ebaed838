//! Weights in files.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::Metadata;

use crate::error::{Error, Result};
use crate::nn::Weights;
use crate::train::weights_file::from_bytes;

/// The longest header of a safetensors file.
const LONGEST: u64 = 100_000_000;

/// Reads the tensors of a safetensors file in f32, f16, bf16 or f64, all as f32.
///
/// # Errors
/// A file that is missing, truncated or no safetensors file, or that holds another type of number.
pub fn read(path: &Path) -> Result<Weights> {
    from_bytes(path, &std::fs::read(path).map_err(Error::io(path, "read"))?)
}

/// The length of a file, and the length of its header in 8 bytes with the header, as far as they go.
fn header(path: &Path) -> std::io::Result<(u64, Vec<u8>)> {
    let mut file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    let mut header = vec![0; 8];
    file.read_exact(&mut header)?;
    let len = u64::from_le_bytes(header[..].try_into().unwrap_or_default());
    file.take(len.min(LONGEST)).read_to_end(&mut header)?;
    Ok((size, header))
}

/// Checks that a file is as long as its header says, without reading the tensors.
pub fn expect_whole(path: &Path) -> Result<()> {
    let (size, header) = header(path).map_err(Error::io(path, "read"))?;
    let torn = |e: &dyn std::fmt::Display| Error::file(path, format!("not a whole safetensors file ({e})"));
    let metadata: Metadata = serde_json::from_slice(&header[8..]).map_err(|e| torn(&e))?;
    let expected = header.len() as u64 + metadata.data_len() as u64;
    if size == expected { Ok(()) } else { Err(torn(&format!("{size} bytes, expected {expected}"))) }
}

/// Refuses values that are not finite: one of them makes every output NaN.
pub fn expect_finite(path: &Path, weights: &Weights) -> Result<()> {
    for (name, (shape, values)) in weights {
        let Some(at) = values.iter().position(|value| !value.is_finite()) else { continue };
        let (count, value) = (values.iter().filter(|value| !value.is_finite()).count(), values[at]);
        let reason = format!(
            "tensor `{name}` {shape:?} has {count} values that are not finite: value {at} is {value}; expected finite \
             numbers: the file is damaged or its training diverged, take an earlier one"
        );
        return Err(Error::file(path, reason));
    }
    Ok(())
}

/// The metadata in the header of a file; none if the file is no safetensors file.
///
/// # Errors
/// A file that cannot be read.
pub fn metadata(path: &Path) -> Result<HashMap<String, String>> {
    match header(path) {
        Ok((_, header)) => {
            let header = serde_json::from_slice::<Metadata>(&header[8..]).ok();
            Ok(header.and_then(|header| header.metadata().clone()).unwrap_or_default())
        }
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(HashMap::new()),
        Err(e) => Err(Error::io(path, "read")(e)),
    }
}

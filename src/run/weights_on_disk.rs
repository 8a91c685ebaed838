//! Weights read from a file.

use std::path::Path;

use crate::error::{Error, Result};
use crate::nn::Weights;
use crate::train::weights_file::from_bytes;

/// Reads f32, f16 or bf16 tensors as f32.
///
/// # Errors
/// When the file is missing, truncated, no safetensors file, or holds another type of number.
pub fn read(path: &Path) -> Result<Weights> {
    from_bytes(path, &std::fs::read(path).map_err(Error::io(path, "read"))?)
}

/// Checks that a file has as many bytes as its header says, without reading them.
pub fn expect_whole(path: &Path) -> Result<()> {
    use safetensors::tensor::Metadata;
    use std::io::Read;
    let header = || -> std::io::Result<(u64, Vec<u8>)> {
        let mut file = std::fs::File::open(path)?;
        let size = file.metadata()?.len();
        let mut header = vec![0; 8];
        file.read_exact(&mut header)?;
        let len = u64::from_le_bytes(header[..].try_into().unwrap_or_default());
        file.take(len.min(size)).read_to_end(&mut header)?;
        Ok((size, header))
    };
    let (size, header) = header().map_err(Error::io(path, "read"))?;
    let torn = |e: &dyn std::fmt::Display| Error::file(path, format!("not a whole safetensors file ({e})"));
    let metadata: Metadata = serde_json::from_slice(&header[8..]).map_err(|e| torn(&e))?;
    let expected = header.len() as u64 + metadata.data_len() as u64;
    if size == expected { Ok(()) } else { Err(torn(&format!("{size} bytes, expected {expected}"))) }
}

//! Weights in files.

use std::path::Path;

use crate::error::{Error, Result};
use crate::nn::Weights;
use crate::train::weights_file::from_bytes;

/// Reads the tensors of a safetensors file in f32, f16 or bf16, all as f32.
///
/// # Errors
/// A file that is missing, truncated or no safetensors file, or that holds another type of number.
pub fn read(path: &Path) -> Result<Weights> {
    from_bytes(path, &std::fs::read(path).map_err(Error::io(path, "read"))?)
}

/// Checks that a file is as long as its header says, without reading the tensors.
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

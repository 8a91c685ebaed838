//! safetensors files of named f32 tensors, read with every doubt named.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View};

use crate::error::{Error, Result};
use crate::nn::Weights;

struct Plain<'a>(&'a [usize], &'a [f32]);

impl View for Plain<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        self.0
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(bytemuck::cast_slice(self.1))
    }
    fn data_len(&self) -> usize {
        size_of_val(self.1)
    }
}

/// Serialises weights with metadata.
pub fn to_bytes(weights: &Weights, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    let views = weights.iter().map(|(name, (shape, values))| (name.as_str(), Plain(shape, values)));
    safetensors::serialize(views, Some(metadata)).map_err(|e| Error::argument("safetensors", e, "named tensors"))
}

/// Reads f32, f16 or bf16 tensors as f32.
///
/// # Errors
/// When the file is missing, truncated, no safetensors file, or holds another type of number.
#[cfg(feature = "native")]
pub fn read(path: &Path) -> Result<Weights> {
    from_bytes(path, &std::fs::read(path).map_err(|e| Error::file(path, e))?)
}

/// The same from bytes in memory; `path` is for the error.
pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Weights> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| {
        Error::file(path, format!("not a whole safetensors file ({e}); {} bytes were read", bytes.len()))
    })?;
    let mut weights = Weights::new();
    for (name, view) in file.tensors() {
        let values = match view.dtype() {
            Dtype::F32 => bytemuck::pod_collect_to_vec(view.data()),
            Dtype::F16 => halves(view.data(), |b| half::f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => halves(view.data(), |b| half::bf16::from_le_bytes(b).to_f32()),
            other => return Err(Error::file(path, format!("tensor `{name}` is {other:?}, expected F32, F16 or BF16"))),
        };
        weights.insert(name, (view.shape().to_vec(), values));
    }
    Ok(weights)
}

/// Checks that a file has as many bytes as its header says, without reading them.
#[cfg(feature = "native")]
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
    let (size, header) = header().map_err(|e| Error::file(path, e))?;
    let torn = |e: &dyn std::fmt::Display| Error::file(path, format!("not a whole safetensors file ({e})"));
    let metadata: Metadata = serde_json::from_slice(&header[8..]).map_err(|e| torn(&e))?;
    let expected = header.len() as u64 + metadata.data_len() as u64;
    if size == expected { Ok(()) } else { Err(torn(&format!("{size} bytes, expected {expected}"))) }
}

fn halves(bytes: &[u8], widen: impl Fn([u8; 2]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|pair| widen(*pair)).collect()
}

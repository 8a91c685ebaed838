//! safetensors files of named tensors in f32 or f16. A file that is not whole or not understood is an error that says
//! why.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View};

use crate::error::{Error, Result};
use crate::models::Kind;
use crate::nn::Weights;

struct Plain<'a>(&'a [usize], Cow<'a, [u8]>, Dtype);

impl View for Plain<'_> {
    fn dtype(&self) -> Dtype {
        self.2
    }
    fn shape(&self) -> &[usize] {
        self.0
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.1)
    }
    fn data_len(&self) -> usize {
        self.1.len()
    }
}

fn serialize<'a>(
    views: impl Iterator<Item = (&'a str, Plain<'a>)>, metadata: HashMap<String, String>,
) -> Result<Vec<u8>> {
    let views: Vec<_> = views.collect();
    safetensors::serialize(views, Some(metadata)).map_err(|e| Error::Internal(format!("weights as safetensors: {e}")))
}

/// The bytes of a safetensors file of f32 tensors, with `metadata` in its header.
pub fn to_bytes(weights: &Weights, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    let view = |values| Cow::Borrowed(bytemuck::cast_slice::<f32, u8>(values));
    let views = weights.iter().map(|(name, (shape, values))| (name.as_str(), Plain(shape, view(values), Dtype::F32)));
    serialize(views, metadata)
}

/// The bytes of a safetensors file with the weights rounded to the nearest f16.
///
/// # Errors
/// A weight beyond 65504, the largest f16.
pub fn to_half_bytes(weights: &Weights, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    for (name, (_, values)) in weights {
        if let Some(value) = values.iter().find(|v| !half::f16::from_f32(**v).is_finite()) {
            return Err(Error::argument(name.to_owned(), value, "a number that f16 can hold"));
        }
    }
    let view = |values: &[f32]| values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
    let views = weights
        .iter()
        .map(|(name, (shape, values))| (name.as_str(), Plain(shape, Cow::Owned(view(values)), Dtype::F16)));
    serialize(views, metadata)
}

/// The metadata in a file's header; `path` is for the error.
pub fn metadata(path: &Path, bytes: &[u8]) -> Result<HashMap<String, String>> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| not_whole(path, bytes, &e))?;
    Ok(header.metadata().clone().unwrap_or_default())
}

/// Why bytes are no safetensors file: what else they are, and what to do.
fn not_whole(path: &Path, bytes: &[u8], e: &safetensors::SafeTensorError) -> Error {
    match Kind::of(bytes) {
        Kind::Safetensors => {
            Error::file(path, format!("not a whole safetensors file ({e}); {} bytes were read", bytes.len()))
        }
        other => Error::file(path, other.explain(bytes)),
    }
}

/// The content of a safetensors file.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// Tensors of f16, bf16, f32 and f64, as f32.
    pub weights: Weights,
    /// Names of tensors of integers, such as `num_batches_tracked`, and their types.
    pub integers: Vec<(String, String)>,
    /// The metadata of its header.
    pub metadata: HashMap<String, String>,
}

/// Everything in a file; `path` is for the error.
///
/// # Errors
/// A file that is truncated, that is no safetensors file, or that holds numbers of another kind.
pub fn content(path: &Path, bytes: &[u8]) -> Result<Content> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| not_whole(path, bytes, &e))?;
    let mut read = Content { metadata: metadata(path, bytes)?, ..Content::default() };
    for (name, view) in file.tensors() {
        let values = match view.dtype() {
            Dtype::F32 => bytemuck::pod_collect_to_vec(view.data()),
            Dtype::F16 => halves(view.data(), |b| half::f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => halves(view.data(), |b| half::bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => view.data().as_chunks().0.iter().map(|eight| f64::from_le_bytes(*eight) as f32).collect(),
            integer @ (Dtype::BOOL
            | Dtype::U8
            | Dtype::I8
            | Dtype::U16
            | Dtype::I16
            | Dtype::U32
            | Dtype::I32
            | Dtype::U64
            | Dtype::I64) => {
                read.integers.push((name, format!("{integer:?}")));
                continue;
            }
            other => return Err(expected_floats(path, &name, &format!("{other:?}"))),
        };
        read.weights.insert(name, (view.shape().to_vec(), values));
    }
    Ok(read)
}

fn expected_floats(path: &Path, name: &str, got: &str) -> Error {
    Error::file(path, format!("tensor `{name}` is {got}, expected F32, F16, BF16 or F64"))
}

/// The tensors of a file in f32, f16, bf16 or f64, all as f32; `path` is for the error.
///
/// # Errors
/// A file that is truncated, that is no safetensors file, or that holds another type of number.
pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Weights> {
    let Content { weights, integers, .. } = content(path, bytes)?;
    integers.first().map_or(Ok(weights), |(name, got)| Err(expected_floats(path, name, got)))
}

fn halves(bytes: &[u8], widen: impl Fn([u8; 2]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|pair| widen(*pair)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_to_nearest_and_keep_their_metadata() {
        let values = vec![1.0, -0.333_333_34, 1e-8, 65_504.0];
        let mut weights = Weights::from([("w".to_string(), (vec![2, 2], values))]);
        let about = HashMap::from([("data".to_string(), "synthetic:64".to_string())]);
        let (path, bytes) = (Path::new("w.safetensors"), to_half_bytes(&weights, about.clone()).unwrap());
        assert_eq!(metadata(path, &bytes).unwrap(), about);
        assert_eq!(from_bytes(path, &bytes).unwrap()["w"], (vec![2, 2], vec![1.0, -0.333_251_95, 0.0, 65_504.0]));
        weights.get_mut("w").unwrap().1[3] = 70_000.0;
        assert_eq!(
            to_half_bytes(&weights, about).unwrap_err().to_string(),
            "w: got 70000, expected a number that f16 can hold"
        );
    }
}

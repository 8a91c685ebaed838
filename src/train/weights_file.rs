//! safetensors files of named tensors in f32 or f16. A file that is not whole or not understood is an error that says
//! why.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::{Dtype, SafeTensorError, SafeTensors, View};

use crate::error::{Error, Result};
use crate::models::Kind;
use crate::nn::Weights;

/// One tensor as it is written.
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

/// The bytes of a safetensors file. The same tensors and metadata give the same bytes, so that two runs can be compared
/// by the sums of their files.
pub(crate) fn serialize<V: View>(
    views: Vec<(&str, V)>, metadata: HashMap<String, String>,
) -> std::result::Result<Vec<u8>, SafeTensorError> {
    const BEFORE: &[u8] = b"{\"__metadata__\":";
    // the crate writes the metadata first, in the order of a hash map; sorted, they take as many bytes
    let sorted = serde_json::to_vec(&metadata.iter().collect::<BTreeMap<_, _>>())?;
    // an empty map of metadata and no tensor would make a header that is not JSON
    let mut bytes = safetensors::serialize(views, (!metadata.is_empty()).then_some(metadata))?;
    let start = 8 + BEFORE.len();
    if bytes[8..].starts_with(BEFORE) {
        bytes[start..start + sorted.len()].copy_from_slice(&sorted);
    }
    Ok(bytes)
}

fn failed(e: SafeTensorError) -> Error {
    Error::Internal(format!("weights as safetensors: {e}"))
}

fn singles(weights: &Weights) -> impl Iterator<Item = (&str, Plain<'_>)> {
    let view = |values| Cow::Borrowed(bytemuck::cast_slice::<f32, u8>(values));
    weights.iter().map(move |(name, (shape, values))| (name.as_str(), Plain(shape, view(values), Dtype::F32)))
}

/// The bytes of a safetensors file of f32 tensors, with `metadata` in its header.
pub fn to_bytes(weights: &Weights, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    serialize(singles(weights).collect(), metadata).map_err(failed)
}

/// Whole numbers by name, such as labels. f32 is exact up to 2²⁴ only.
pub type Integers = BTreeMap<String, Vec<i64>>;

/// The bytes of a safetensors file of f32 tensors and of rows of integers, PyTorch's `int64`.
pub fn to_bytes_with(weights: &Weights, integers: &Integers, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    let shapes: Vec<[usize; 1]> = integers.values().map(|values| [values.len()]).collect();
    let view = |values| Cow::Borrowed(bytemuck::cast_slice::<i64, u8>(values));
    let rows = integers.iter().zip(&shapes).map(|((name, values), shape)| {
        let row = Plain(shape, view(values), Dtype::I64);
        (name.as_str(), row)
    });
    serialize(singles(weights).chain(rows).collect(), metadata).map_err(failed)
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
    serialize(views.collect(), metadata).map_err(failed)
}

/// The metadata in a file's header; `path` is for the error.
pub fn metadata(path: &Path, bytes: &[u8]) -> Result<HashMap<String, String>> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| not_whole(path, bytes, &e))?;
    Ok(header.metadata().clone().unwrap_or_default())
}

/// Why bytes are no safetensors file: what else they are, and what to do.
fn not_whole(path: &Path, bytes: &[u8], e: &SafeTensorError) -> Error {
    match Kind::of(bytes) {
        Kind::Safetensors => {
            let pytorch = path.extension().is_some_and(|end| ["pth", "pt", "bin", "ckpt"].iter().any(|e| end == *e));
            let what =
                if pytorch { "no PyTorch file, and no whole safetensors file" } else { "not a whole safetensors file" };
            Error::file(path, format!("{what} ({e}); {} bytes were read", bytes.len()))
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
    #[test]
    fn the_same_content_is_the_same_bytes() {
        let weights = Weights::from([("w".to_string(), (vec![2], vec![1.0, 2.0])), ("v".into(), (vec![0], vec![]))]);
        let ids = Integers::from([("ids".to_string(), vec![(1 << 24) + 1, -3])]);
        // each map has an order of its own
        let about = || (0..20).map(|i| (format!("key {i}"), format!("\"{i}\"\n"))).collect::<HashMap<_, _>>();
        let first = to_bytes_with(&weights, &ids, about()).unwrap();
        let (half, plain) = (to_half_bytes(&weights, about()).unwrap(), to_bytes(&weights, about()).unwrap());
        for _ in 0..20 {
            assert_eq!(to_bytes_with(&weights, &ids, about()).unwrap(), first);
            assert_eq!(to_half_bytes(&weights, about()).unwrap(), half);
            assert_eq!(to_bytes(&weights, about()).unwrap(), plain);
        }
        let file = SafeTensors::deserialize(&first).unwrap();
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, i64>(file.tensor("ids").unwrap().data()), ids["ids"]);
        let path = Path::new("w.safetensors");
        for bytes in [first, half, plain] {
            assert_eq!(metadata(path, &bytes).unwrap(), about());
            assert_eq!(content(path, &bytes).unwrap().weights, weights);
            // keys of the metadata are sorted
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.find("key 10\"").unwrap() < text.find("key 9\"").unwrap());
        }
    }

    #[test]
    fn a_file_may_hold_no_tensor() {
        let path = Path::new("w.safetensors");
        for about in [HashMap::new(), HashMap::from([("a".to_string(), "b".to_string())])] {
            let bytes = to_bytes(&Weights::new(), about.clone()).unwrap();
            assert_eq!((from_bytes(path, &bytes).unwrap(), metadata(path, &bytes).unwrap()), (Weights::new(), about));
        }
    }
}

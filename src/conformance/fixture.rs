//! Reading a fixture: its kind, its configuration, and its tensors as f64.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::error::{Error, Result};

/// A tensor of a fixture.
#[derive(Debug, Clone, Default)]
pub struct Array {
    /// Size of each dimension, outermost first.
    pub shape: Vec<usize>,
    /// Values, converted to f64 from any type in the file.
    pub values: Vec<f64>,
}

impl Array {
    /// The values as f32.
    pub fn f32(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }
}

/// One conformance case.
#[derive(Debug)]
pub struct Fixture {
    /// The file.
    pub path: PathBuf,
    /// Kind of the fixture, one of [`super::KINDS`].
    pub kind: String,
    config: Value,
    unused: Vec<String>,
    zero: Vec<String>,
    tensors: BTreeMap<String, Array>,
}

fn decode(view: &safetensors::tensor::TensorView<'_>) -> Option<Vec<f64>> {
    fn all<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks().0.iter().map(|chunk| read(*chunk)).collect()
    }
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F32 => all(bytes, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F64 => all(bytes, f64::from_le_bytes),
        Dtype::F16 => all(bytes, |b| half::f16::from_le_bytes(b).to_f64()),
        Dtype::BF16 => all(bytes, |b| half::bf16::from_le_bytes(b).to_f64()),
        Dtype::I64 => all(bytes, |b| i64::from_le_bytes(b) as f64),
        Dtype::I32 => all(bytes, |b| f64::from(i32::from_le_bytes(b))),
        _ => return None,
    })
}

impl Fixture {
    /// Reads a fixture file.
    ///
    /// # Errors
    /// If it cannot be read, is no safetensors file, or its metadata are not those of a fixture.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let broken = |e: safetensors::SafeTensorError| Error::file(path, format!("not a safetensors file: {e}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
        let file = SafeTensors::deserialize(&bytes).map_err(broken)?;
        let empty = Default::default();
        let metadata = header.metadata().as_ref().unwrap_or(&empty);
        let text = |key: &str| metadata.get(key).map(String::as_str);
        if text("format") != Some("rowscan-fixture/1") {
            let got = text("format").unwrap_or("none");
            return Err(Error::file(path, format!("metadata `format` is {got}, expected rowscan-fixture/1")));
        }
        let json = |key: &str, default: &str| -> Result<Value> {
            let broken = |e| Error::file(path, format!("metadata `{key}` is not JSON: {e}"));
            serde_json::from_str(text(key).unwrap_or(default)).map_err(broken)
        };
        let names = |key: &str| -> Result<Vec<String>> {
            let broken = |e| Error::file(path, format!("metadata `{key}` is not a list of names: {e}"));
            serde_json::from_value(json(key, "[]")?).map_err(broken)
        };
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let unread = || Error::file(path, format!("tensor `{name}` has the type {:?}", view.dtype()));
            let values = decode(&view).ok_or_else(unread)?;
            tensors.insert(name, Array { shape: view.shape().to_vec(), values });
        }
        Ok(Self {
            path: path.to_path_buf(),
            kind: text("kind").unwrap_or_default().to_string(),
            config: json("config", "{}")?,
            unused: names("unused_parameters")?,
            zero: names("zero_gradients")?,
            tensors,
        })
    }

    /// An error about this file.
    pub fn error(&self, reason: impl std::fmt::Display) -> Error {
        Error::file(&self.path, reason)
    }

    /// A value of the configuration, or `null` if it has no such key.
    pub fn config(&self, key: &str) -> &Value {
        &self.config[key]
    }

    /// A whole number of the configuration, up to 2²⁴, or `default` if it has no such key.
    pub fn size(&self, key: &str, default: usize) -> Result<usize> {
        match &self.config[key] {
            Value::Null => Ok(default),
            value => {
                value.as_u64().filter(|v| *v <= 1 << 24).map(|v| v as usize).ok_or_else(|| {
                    self.error(format!("config `{key}` is {value}, expected a whole number to 16777216"))
                })
            }
        }
    }

    /// A number of the configuration, or `default` if it has no such key.
    pub fn number(&self, key: &str, default: f64) -> Result<f64> {
        match &self.config[key] {
            Value::Null => Ok(default),
            value => value.as_f64().ok_or_else(|| self.error(format!("config `{key}` is {value}, expected a number"))),
        }
    }

    /// A boolean of the configuration, or `default` if it has no such key.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match &self.config[key] {
            Value::Null => Ok(default),
            value => {
                value.as_bool().ok_or_else(|| self.error(format!("config `{key}` is {value}, expected true or false")))
            }
        }
    }

    /// A list of numbers of the configuration, or `None` if there is no such list.
    pub fn numbers(&self, key: &str) -> Option<Vec<f64>> {
        self.config[key].as_array()?.iter().map(Value::as_f64).collect()
    }

    /// The tensor of this name, if there is one.
    pub fn find(&self, name: &str) -> Option<&Array> {
        self.tensors.get(name)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, name: &str) -> Result<&Array> {
        self.find(name).ok_or_else(|| self.error(format!("tensor `{name}` is missing")))
    }

    /// All tensors whose name starts with `prefix`, with the rest of the name.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Array)> {
        self.tensors.iter().filter_map(move |(name, array)| Some((name.strip_prefix(prefix)?, array)))
    }

    /// Names of the parameters that must have no gradient (`.grad is None`), because the loss does not use them.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Whether the exact gradient of this parameter is 0, so that its absolute value is compared instead of a relative
    /// error.
    pub fn is_zero(&self, name: &str) -> bool {
        self.zero.iter().any(|z| z == name)
    }
}

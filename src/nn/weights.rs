//! Named tensors on the CPU, and how they differ from those of a model.

use std::collections::{BTreeMap, HashSet};

use super::init::Init;
use crate::error::{Error, Result};

/// Named tensors on the CPU: shape and values by the name in a checkpoint. PyTorch's `state_dict`.
pub type Weights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A named tensor of a model, and its place in an arena.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name in a checkpoint.
    pub name: String,
    /// The shape in a checkpoint.
    pub shape: Vec<usize>,
    /// Initial values.
    pub init: Init,
    pub(super) arena: usize,
    pub(super) start: usize,
    pub(super) var: u64,
}

impl Entry {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// True if there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How a checkpoint differs from a model. All lists are empty if it fits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Tensors of the model that the checkpoint lacks: PyTorch's `missing_keys`.
    pub missing: Vec<String>,
    /// Tensors of the checkpoint that the model lacks: PyTorch's `unexpected_keys`.
    pub unknown: Vec<String>,
    /// One line for each tensor of another shape: `name is [..], expected [..]`.
    pub shapes: Vec<String>,
}

impl Mismatch {
    /// Compares weights with the tensors of a model.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>, weights: &Weights) -> Self {
        let entries: Vec<&Entry> = entries.into_iter().collect();
        let known: HashSet<_> = entries.iter().map(|e| e.name.as_str()).collect();
        let absent = entries.iter().filter(|e| !weights.contains_key(&e.name));
        let shape = |e: &Entry| {
            let (shape, _) = weights.get(&e.name)?;
            (*shape != e.shape).then(|| Self::shape(&e.name, shape, &e.shape))
        };
        Self {
            missing: absent.map(|e| e.name.clone()).collect(),
            unknown: weights.keys().filter(|k| !known.contains(k.as_str())).cloned().collect(),
            shapes: entries.iter().filter_map(|e| shape(e)).collect(),
        }
    }

    /// The line of `shapes` about one tensor.
    pub fn shape(name: &str, got: &[usize], expected: &[usize]) -> String {
        format!("{name} is {got:?}, expected {expected:?}")
    }

    /// An error unless everything fits. It counts the tensors of each list and names the first ones.
    pub fn into_result(self) -> Result<()> {
        let lists = [(&self.missing, "missing"), (&self.unknown, "unknown"), (&self.shapes, "of another shape")];
        let differ: Vec<String> = lists.iter().filter(|(l, _)| !l.is_empty()).map(|(l, what)| some(l, what)).collect();
        if differ.is_empty() {
            return Ok(());
        }
        Err(Error::argument("tensors of the checkpoint", differ.join("; "), "exactly those of the model"))
    }
}

/// `3 missing (a, b, c)`, at most five of them.
fn some(names: &[String], what: &str) -> String {
    let more = if names.len() > 5 { ", …" } else { "" };
    format!("{} {what} ({}{more})", names.len(), names[..names.len().min(5)].join(", "))
}

//! Named tensors on the CPU, and how they differ from those of a model.

use std::borrow::Cow;
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
    pub(super) reversed: Option<usize>,
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

    /// The values of a checkpoint in the order of the arena, and back: the same in either direction.
    pub(super) fn turned<'a>(&self, values: &'a [f32]) -> Cow<'a, [f32]> {
        let Some(axis) = self.reversed.filter(|axis| *axis < self.shape.len()) else { return Cow::Borrowed(values) };
        let (count, each) = (self.shape[axis], self.shape[axis + 1..].iter().product::<usize>());
        let at = |i: usize| i / (count * each) * count * each + (count - 1 - i / each % count) * each + i % each;
        (0..values.len()).map(|i| values[at(i)]).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_is_turned() {
        let entry = |reversed| Entry {
            name: String::new(),
            shape: vec![2, 3],
            init: Init::Zeros,
            arena: 0,
            start: 0,
            var: 0,
            reversed,
        };
        let values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(*entry(None).turned(&values), values);
        assert_eq!(*entry(Some(0)).turned(&values), [3.0, 4.0, 5.0, 0.0, 1.0, 2.0]);
        assert_eq!(*entry(Some(1)).turned(&values), [2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
        assert_eq!(*entry(Some(1)).turned(&entry(Some(1)).turned(&values)), values);
    }
}

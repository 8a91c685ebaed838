//! What a pickle stands for: plain values in one list, which refer to each other by number. So a value that contains
//! itself, or that is nested a million deep, is neither copied nor dropped recursively.

use std::ops::Range;

use super::globals::{Global, Number};

/// Number of a value in [`Values::all`].
pub(super) type Id = u32;

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// What is of no interest.
    Inert,
    Truth(bool),
    Integer(i64),
    /// Where the text or the bytes are in the pickle.
    Text(Range<usize>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dictionary(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage),
    Tensor(Box<Tensor>),
}

/// The numbers that tensors share, by the name of their entry in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storage {
    pub number: Number,
    pub key: Range<usize>,
    /// How many numbers there are.
    pub len: usize,
    /// Numbers of the entry in front of the first.
    pub start: usize,
}

/// PyTorch's strided tensor: element (i, j, …) is number `offset + i·strides[0] + j·strides[1] + …` of the storage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub storage: Storage,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Values<'a> {
    pub bytes: &'a [u8],
    pub all: Vec<Value>,
    /// The value that the pickle stands for.
    pub root: Id,
    /// Bytes that it takes.
    pub len: usize,
}

impl<'a> Values<'a> {
    pub fn get(&self, id: Id) -> &Value {
        self.all.get(id as usize).unwrap_or(&Value::Inert)
    }

    /// The text at a place.
    pub fn text(&self, range: &Range<usize>) -> &'a [u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// The text that a value is.
    pub fn text_of(&self, id: Id) -> Option<&'a [u8]> {
        let Value::Text(range) = self.get(id) else { return None };
        Some(self.text(range))
    }

    /// Every storage that a tensor or a view refers to.
    pub fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.all.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some(storage),
            _ => None,
        })
    }
}

//! Tensors and storages from the arguments that pickles give.

use super::Result;
use super::globals::Global;
use super::values::{Id, Storage, Tensor, Value, Values};

/// The dimensions of a tensor that are accepted.
const DIMENSIONS: usize = 16;
/// The longest key of a storage that is accepted.
const LONGEST_KEY: usize = 256;

fn size(values: &Values<'_>, id: Id) -> Option<usize> {
    match values.get(id) {
        Value::Integer(number) => usize::try_from(*number).ok(),
        _ => None,
    }
}

fn sizes(values: &Values<'_>, id: Id) -> Option<Vec<usize>> {
    match values.get(id) {
        Value::Tuple(ids) | Value::List(ids) if ids.len() <= DIMENSIONS => {
            ids.iter().map(|id| size(values, *id)).collect()
        }
        _ => None,
    }
}

/// (storage, offset, shape, strides, …)
pub(super) fn tensor(values: &Values<'_>, arguments: &[Id], at: usize) -> Result<Tensor> {
    let read = || {
        let &[storage, offset, shape, strides, ..] = arguments else { return None };
        let Value::Storage(storage) = values.get(storage) else { return None };
        let (shape, strides) = (sizes(values, shape)?, sizes(values, strides)?);
        (shape.len() == strides.len()).then_some(())?;
        Some(Tensor { storage: storage.clone(), offset: size(values, offset)?, shape, strides })
    };
    read().ok_or_else(|| {
        let parts = "storage, offset, shape and strides";
        format!("the pickle builds a tensor from something else than {parts} before byte {at}")
    })
}

/// `('storage', class, key, device, length)`; the older form has `(key, offset, length)` of a view behind it.
pub(super) fn storage(values: &Values<'_>, id: Id, at: usize) -> Result<Storage> {
    let read = || {
        let Value::Tuple(parts) = values.get(id) else { return None };
        let &[tag, class, key, _, len, ref view @ ..] = parts.as_slice() else { return None };
        let (Value::Text(tag), Value::Text(key)) = (values.get(tag), values.get(key)) else {
            return None;
        };
        (values.text(tag) == b"storage" && key.len() <= LONGEST_KEY).then_some(())?;
        let Value::Global(Global::Storage(number)) = values.get(class) else { return None };
        let (mut start, mut len) = (0, size(values, len)?);
        if let Some(Value::Tuple(view)) = view.first().map(|view| values.get(*view)) {
            let &[_, offset, view_len] = view.as_slice() else { return None };
            let (offset, view_len) = (size(values, offset)?, size(values, view_len)?);
            (offset.checked_add(view_len)? <= len).then_some(())?;
            (start, len) = (offset, view_len);
        }
        Some(Storage { number: *number, key: key.clone(), len, start })
    };
    read().ok_or_else(|| format!("the pickle refers to something that is no storage before byte {at}"))
}

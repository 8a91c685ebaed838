//! Strided tensors of storages, as contiguous f32.

use std::collections::HashMap;

use super::globals::Number;
use super::values::{Tensor, Values};
use super::{Result, StateDict};

/// A PyTorch file: its values, and the bytes of its storages by key.
pub(super) struct TorchFile<'a> {
    pub values: Values<'a>,
    pub storages: HashMap<Vec<u8>, &'a [u8]>,
}

/// Values for each byte of a file that its tensors may have together. Tensors that share a storage have more values
/// than the file has numbers; a file that unfolds without bound is refused.
const SHARING: usize = 2;

/// Reads the tensors of a dictionary. Integers are left out.
pub(super) fn load(
    file: &TorchFile<'_>, dictionary: &[(String, &Tensor)], mut left_out: Vec<String>, len: usize,
) -> Result<StateDict> {
    let mut read = StateDict::default();
    let (mut integers, mut total) = (Vec::new(), 0usize);
    for (name, tensor) in dictionary {
        if let Number::Integer(_) = tensor.storage.number {
            integers.push(name.as_str());
            continue;
        }
        let count = tensor.shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
        total = total.saturating_add(count.unwrap_or(usize::MAX));
        if total > len.saturating_mul(SHARING) {
            return Err(format!(
                "has tensors of more than {SHARING} values for each of its {len} bytes, up to `{name}`"
            ));
        }
        let values = values(file, tensor).map_err(|reason| format!("tensor `{name}`: {reason}"))?;
        read.weights.insert(name.clone(), (tensor.shape.clone(), values));
    }
    if !integers.is_empty() {
        let more = if integers.len() > 5 { ", …" } else { "" };
        let first = integers[..integers.len().min(5)].join(", ");
        left_out.push(format!("left out {} tensors of integers: {first}{more}", integers.len()));
    }
    let integers = integers.into_iter().map(str::to_owned).collect();
    Ok(StateDict { left_out, integers, ..read })
}

fn values(file: &TorchFile<'_>, tensor: &Tensor) -> Result<Vec<f32>> {
    let Tensor { storage, offset, shape, strides } = tensor;
    if shape.contains(&0) {
        return Ok(Vec::new());
    }
    let key = file.values.text(&storage.key);
    let shown = || String::from_utf8_lossy(key).into_owned();
    let bytes = file.storages.get(key).ok_or_else(|| format!("the file lacks its storage {}", shown()))?;
    let outside = || {
        let size = storage.number.size();
        format!(
            "shape {shape:?} with strides {strides:?} from {offset} goes beyond the {} numbers of its storage {} \
             ({} bytes, {size} each)",
            storage.len,
            shown(),
            bytes.len()
        )
    };
    let span = shape
        .iter()
        .zip(strides)
        .try_fold(*offset, |last, (size, stride)| last.checked_add((size - 1).checked_mul(*stride)?));
    let last = span.filter(|last| *last < storage.len).ok_or_else(outside)?;
    let end = storage.start.checked_add(last).and_then(|last| last.checked_add(1)?.checked_mul(storage.number.size()));
    end.filter(|end| *end <= bytes.len()).ok_or_else(outside)?;
    let read = |at: usize| number(storage.number, bytes, storage.start + at);
    // places of the last dimension for each combination of the others, as an odometer counts
    let mut values = Vec::with_capacity(shape.iter().product());
    let (outer, inner) = shape.split_at(shape.len().saturating_sub(1));
    let (row, step) = (inner.first().copied().unwrap_or(1), strides.last().copied().unwrap_or(0));
    let (mut index, mut start) = (vec![0; outer.len()], *offset);
    loop {
        values.extend((0..row).map(|i| read(start + i * step)));
        let mut axis = outer.len();
        loop {
            let Some(next) = axis.checked_sub(1) else { return Ok(values) };
            axis = next;
            index[axis] += 1;
            start += strides[axis];
            if index[axis] < outer[axis] {
                break;
            }
            start -= index[axis] * strides[axis];
            index[axis] = 0;
        }
    }
}

/// Number `at` of the bytes of a storage.
fn number(number: Number, bytes: &[u8], at: usize) -> f32 {
    fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
        bytes.get(at * N..).and_then(|rest| rest.first_chunk().copied()).unwrap_or([0; N])
    }
    match number {
        Number::F16 => half::f16::from_le_bytes(field(bytes, at)).to_f32(),
        Number::Bf16 => half::bf16::from_le_bytes(field(bytes, at)).to_f32(),
        Number::F32 => f32::from_le_bytes(field(bytes, at)),
        Number::F64 => f64::from_le_bytes(field(bytes, at)) as f32,
        Number::Integer(_) => 0.0,
    }
}

//! The form before PyTorch 1.6: pickles one behind the other (a magic number, a version, the machine, the object, the
//! keys of its storages), then each storage behind its length.

use std::collections::HashMap;

use super::Result;
use super::pickle;
use super::tensors::TorchFile;
use super::values::{Value, Values};

/// A pickle of PyTorch's magic number 0x1950a86a20f9469cfc6c, from its first instruction.
const MAGIC: &[u8] = &[0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    bytes.get(2..).is_some_and(|rest| rest.starts_with(MAGIC))
}

/// Reads pickles and storages.
pub(super) fn read(bytes: &[u8]) -> Result<TorchFile<'_>> {
    let mut rest = bytes;
    let mut next = || -> Result<Values<'_>> {
        let values = pickle::read(rest)?;
        rest = &rest[values.len..];
        Ok(values)
    };
    let (_magic, _version, machine) = (next()?, next()?, next()?);
    if let Value::Dictionary(entries) = machine.get(machine.root) {
        let big = |(key, value): &(u32, u32)| {
            machine.text_of(*key) == Some(b"little_endian") && matches!(machine.get(*value), Value::Truth(false))
        };
        if entries.iter().any(big) {
            return Err("has numbers with the most significant byte first; expected the least significant first".into());
        }
    }
    let (values, keys) = (next()?, next()?);
    let Value::List(ids) = keys.get(keys.root) else {
        return Err("lacks the list of its storages".into());
    };
    let mut numbers = HashMap::new();
    numbers.extend(values.storages().map(|storage| (values.text(&storage.key), storage.number)));
    let mut storages = HashMap::new();
    for id in ids {
        let key = keys.text_of(*id).unwrap_or_default();
        let shown = || String::from_utf8_lossy(key).into_owned();
        let number = numbers.get(key).ok_or_else(|| format!("has a storage {} that no tensor refers to", shown()))?;
        let storage = rest.split_at_checked(8).and_then(|(len, data)| {
            let len = usize::try_from(u64::from_le_bytes(len.try_into().ok()?)).ok()?;
            data.split_at_checked(len.checked_mul(number.size())?)
        });
        let (data, behind) =
            storage.ok_or_else(|| format!("lacks bytes of the storage {}: the download was cut off", shown()))?;
        storages.insert(key.to_vec(), data);
        rest = behind;
    }
    Ok(TorchFile { values, storages })
}

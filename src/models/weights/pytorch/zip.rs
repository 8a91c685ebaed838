//! The form since PyTorch 1.6: a zip archive whose entries are not compressed. `data.pkl` is the pickle, and `data/KEY`
//! the bytes of a storage.

use std::collections::HashMap;

use super::Result;
use super::pickle;
use super::tensors::TorchFile;

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";

/// A field of `size` bytes at `at`.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(size)?)?;
    Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn place(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    usize::try_from(number(bytes, at, size)?).ok()
}

/// (number of entries, where their directory begins)
fn directory(bytes: &[u8]) -> Option<(u64, usize)> {
    // behind the end record stands only a comment of at most 64 KiB
    let from = bytes.len().saturating_sub(22 + 65_535);
    let end = from + bytes[from..].windows(22).rposition(|record| record.starts_with(END))?;
    let (count, at) = (number(bytes, end + 10, 2)?, place(bytes, end + 16, 4)?);
    let locator = end.checked_sub(20).filter(|at| bytes[*at..].starts_with(LOCATOR_64));
    let Some(locator) = locator else { return Some((count, at)) };
    let end = place(bytes, locator + 8, 8)?;
    bytes.get(end..)?.starts_with(END_64).then_some(())?;
    Some((number(bytes, end + 32, 8)?, place(bytes, end + 48, 8)?))
}

struct Entry<'a> {
    name: &'a [u8],
    /// How it is packed; 0 for not at all.
    method: u64,
    encrypted: bool,
    data: Option<&'a [u8]>,
}

/// The entry whose record begins at `at`, and where the next one begins.
fn entry(bytes: &[u8], at: usize) -> Option<(Entry<'_>, usize)> {
    bytes.get(at..)?.starts_with(ENTRY).then_some(())?;
    let (flags, method) = (number(bytes, at + 8, 2)?, number(bytes, at + 10, 2)?);
    let (mut packed, mut size, mut local) =
        (number(bytes, at + 20, 4)?, number(bytes, at + 24, 4)?, number(bytes, at + 42, 4)?);
    let [name, extra, comment] = [28, 30, 32].map(|field| place(bytes, at + field, 2).unwrap_or_default());
    let name = bytes.get(at + 46..at + 46 + name)?;
    let extras = bytes.get(at + 46 + name.len()..at + 46 + name.len() + extra)?;
    let next = at + 46 + name.len() + extra + comment;
    // fields that do not fit 32 bits are in a record of their own, in this order
    let mut rest = extras;
    while rest.len() >= 4 {
        let (id, len) = (number(rest, 0, 2)?, place(rest, 2, 2)?);
        let mut record = rest.get(4..4 + len)?;
        for field in [&mut size, &mut packed, &mut local] {
            if id == 1 && *field == u64::from(u32::MAX) {
                *field = number(record, 0, 8)?;
                record = &record[8..];
            }
        }
        rest = &rest[4 + len..];
    }
    let data = || {
        let local = usize::try_from(local).ok()?;
        bytes.get(local..)?.starts_with(LOCAL).then_some(())?;
        let start = local + 30 + place(bytes, local + 26, 2)? + place(bytes, local + 28, 2)?;
        bytes.get(start..start.checked_add(usize::try_from(packed).ok()?)?)
    };
    Some((Entry { name, method, encrypted: flags & 1 != 0, data: data().filter(|_| packed == size) }, next))
}

/// Reads pickle and storages.
pub(super) fn read(bytes: &[u8]) -> Result<TorchFile<'_>> {
    let cut = || "is a zip archive without its end: the download was cut off".to_string();
    let (count, mut at) = directory(bytes).ok_or_else(cut)?;
    let mut entries = HashMap::new();
    for _ in 0..count {
        let (entry, next) = entry(bytes, at).ok_or_else(cut)?;
        entries.insert(entry.name, entry);
        at = next;
    }
    let pickle = entries.keys().find(|name| **name == b"data.pkl" || name.ends_with(b"/data.pkl")).copied();
    let pickle = pickle.ok_or_else(|| {
        let some: Vec<_> = entries.keys().take(3).map(|name| String::from_utf8_lossy(name)).collect();
        format!("is a zip archive, but not one of torch.save: it has {} and no data.pkl", some.join(", "))
    })?;
    let folder = &pickle[..pickle.len() - b"data.pkl".len()];
    if let Some(order) = entries.get([folder, b"byteorder"].concat().as_slice())
        && order.data.is_some_and(|order| order.trim_ascii() != b"little")
    {
        return Err("has numbers with the most significant byte first; expected the least significant first".into());
    }
    let mut storages = HashMap::new();
    let prefix = [folder, b"data/"].concat();
    for (name, entry) in entries.iter().filter(|(name, _)| **name == pickle || name.starts_with(&prefix)) {
        let shown = String::from_utf8_lossy(name);
        if entry.encrypted || entry.method != 0 {
            let how = if entry.encrypted { "encrypted" } else { "compressed" };
            return Err(format!("has the entry {shown} {how}; expected it as torch.save stores it: save it again"));
        }
        let data = entry.data.ok_or_else(|| format!("lacks bytes of the entry {shown}: the file is damaged"))?;
        if let Some(key) = name.strip_prefix(prefix.as_slice()) {
            storages.insert(key.to_vec(), data);
        }
    }
    let pickle = entries.get(pickle).and_then(|entry| entry.data).ok_or_else(cut)?;
    Ok(TorchFile { values: pickle::read(pickle)?, storages })
}

//! The form since PyTorch 1.6: a zip archive whose entries are not compressed. `data.pkl` is the pickle, and `data/KEY`
//! the bytes of a storage.

use std::collections::HashMap;

use super::Result;
use super::pickle;
use super::tensors::TorchFile;
use crate::zip::{self, Entry, head_size};

/// The bytes of an entry that is stored; `None` if they are not in the file.
fn data<'a>(bytes: &'a [u8], entry: &Entry) -> Option<&'a [u8]> {
    let file = bytes.get(usize::try_from(entry.offset).ok()?..)?;
    let data = file.get(usize::try_from(head_size(file)?).ok()?..)?;
    data.get(..usize::try_from(entry.packed).ok()?).filter(|_| entry.packed == entry.size)
}

/// Reads pickle and storages.
pub(super) fn read(bytes: &[u8]) -> Result<TorchFile<'_>> {
    let cut = || "is a zip archive without its end: the download was cut off".to_string();
    // the directory lies in memory, so that its places fit
    let part = |offset: u64, size: u64| Ok::<_, String>(bytes[offset as usize..][..size as usize].to_vec());
    let entries = zip::entries(bytes.len() as u64, part)?.ok_or_else(cut)?;
    let entries: HashMap<&[u8], &Entry> = entries.iter().map(|entry| (&entry.name[..], entry)).collect();
    let pickle = entries.keys().find(|name| **name == b"data.pkl" || name.ends_with(b"/data.pkl")).copied();
    let pickle = pickle.ok_or_else(|| {
        let some: Vec<_> = entries.keys().take(3).map(|name| String::from_utf8_lossy(name)).collect();
        format!("is a zip archive, but not one of torch.save: it has {} and no data.pkl", some.join(", "))
    })?;
    let folder = &pickle[..pickle.len() - b"data.pkl".len()];
    if let Some(order) = entries.get([folder, b"byteorder"].concat().as_slice())
        && data(bytes, order).is_some_and(|order| order.trim_ascii() != b"little")
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
        let data =
            data(bytes, entry).ok_or_else(|| format!("lacks bytes of the entry {shown}: the file is damaged"))?;
        if let Some(key) = name.strip_prefix(prefix.as_slice()) {
            storages.insert(key.to_vec(), data);
        }
    }
    let pickle = entries.get(pickle).and_then(|entry| data(bytes, entry)).ok_or_else(cut)?;
    Ok(TorchFile { values: pickle::read(pickle)?, storages })
}

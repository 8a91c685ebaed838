//! Where the bytes of a file lie in an archive, and how they become those of the file.

use super::archive::read_at;
use crate::error::DataError;
use crate::zip::{Entry, HEAD, head_size};
use flate2::{Crc, Decompress, FlushDecompress};
use std::fs::File;
use std::path::Path;

/// A file in an archive.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    offset: u64,
    size: u64,
    /// What only a zip knows.
    zip: Option<Zip>,
}

#[derive(Debug, Clone)]
struct Zip {
    deflated: bool,
    size: u64,
    crc: u32,
}

impl Packed {
    /// As it is.
    pub fn plain(offset: u64, size: u64) -> Self {
        Self { offset, size, zip: None }
    }

    /// As a zip of `total` bytes has it.
    ///
    /// # Errors
    /// What is not read: encrypted, or packed in another way than by deflate. `None` if it is not inside the archive.
    pub fn zipped(entry: &Entry, total: u64) -> Result<Self, Option<String>> {
        if entry.encrypted {
            return Err(Some("encrypted".to_owned()));
        }
        if ![0, 8].contains(&entry.method) {
            return Err(Some(format!("packed by method {}", entry.method)));
        }
        let inside = entry.offset.checked_add(entry.packed).is_some_and(|end| end <= total);
        let zip = Zip { deflated: entry.method == 8, size: entry.size, crc: entry.crc };
        inside.then_some(Self { offset: entry.offset, size: entry.packed, zip: Some(zip) }).ok_or(None)
    }
}

/// The bytes of a file. `path` is its own, for messages.
pub(super) fn unpacked(path: &Path, packed: &Packed, archive: &File) -> Result<Vec<u8>, DataError> {
    let at = |offset: u64, size: u64| -> Result<Vec<u8>, DataError> {
        let mut bytes = vec![0; size as usize]; // no more than the archive holds
        read_at(archive, offset, &mut bytes).map_err(DataError::io("read", path))?;
        Ok(bytes)
    };
    let Some(zip) = &packed.zip else { return at(packed.offset, packed.size) };
    let damaged =
        |what: &str| DataError::Decode { name: path.display().to_string(), reason: format!("{what} in the archive") };
    let head = head_size(&at(packed.offset, HEAD)?).ok_or_else(|| damaged("has no head"))?;
    let bytes = at(packed.offset + head, packed.size)?;
    let bytes = if zip.deflated { inflated(&bytes, zip.size).ok_or_else(|| damaged("is damaged"))? } else { bytes };
    let mut crc = Crc::new();
    crc.update(&bytes);
    if crc.sum() != zip.crc {
        return Err(damaged("is damaged: its checksum is another one"));
    }
    Ok(bytes)
}

/// Inflates to `size` bytes; `None` for another number of them.
fn inflated(bytes: &[u8], size: u64) -> Option<Vec<u8>> {
    // deflate packs to a thousandth at best, so that a damaged size takes no memory
    let size = usize::try_from(size).ok().filter(|size| size / 1100 <= bytes.len())?;
    let mut out = Vec::with_capacity(size + 1);
    let mut stream = Decompress::new(false);
    let status = stream.decompress_vec(bytes, &mut out, FlushDecompress::Finish).ok()?;
    (status == flate2::Status::StreamEnd && out.len() == size).then_some(out)
}

//! What lies where in a zip archive: its directory, with sizes of 64 bits, and files that are stored or deflated.

use super::archive::read_at;
use crate::error::DataError;
use flate2::{Crc, Decompress, FlushDecompress};
use std::fs::File;
use std::path::Path;

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
/// The end record, and the longest comment behind it.
const TAIL: u64 = 22 + 65_535;

/// Where the bytes of a file lie in an archive, and how.
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
}

/// A field of `size` bytes at `at`.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(size)?)?;
    Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The files of an archive, by the names that it gives them.
pub(super) fn zip_entries(path: &Path, file: &File) -> Result<Vec<(String, Packed)>, DataError> {
    let total = file.metadata().map_err(DataError::io("look at", path))?.len();
    let read = |offset: u64, size: u64| -> Result<Option<Vec<u8>>, DataError> {
        if offset.checked_add(size).is_none_or(|end| end > total) {
            return Ok(None);
        }
        let mut bytes = vec![0; size as usize]; // no more than the archive holds
        read_at(file, offset, &mut bytes).map_err(DataError::io("read", path))?;
        Ok(Some(bytes))
    };
    let damaged = || {
        let advice = "copy it again, or unpack it and give the folder";
        DataError::format(path, format!("is not a whole zip archive: {advice}"))
    };
    let from = total.saturating_sub(TAIL);
    let tail = read(from, total - from)?.ok_or_else(damaged)?;
    let end = tail.windows(22).rposition(|record| record.starts_with(END)).ok_or_else(damaged)?;
    let locator = end.checked_sub(20).filter(|at| tail[*at..].starts_with(LOCATOR_64));
    let (size, at) = match locator {
        None => (number(&tail, end + 12, 4), number(&tail, end + 16, 4)),
        Some(locator) => {
            let place = number(&tail, locator + 8, 8).ok_or_else(damaged)?;
            let record = read(place, 56)?.filter(|record| record.starts_with(END_64)).ok_or_else(damaged)?;
            (number(&record, 40, 8), number(&record, 48, 8))
        }
    };
    let directory = read(at.ok_or_else(damaged)?, size.ok_or_else(damaged)?)?.ok_or_else(damaged)?;
    let (mut found, mut rest) = (Vec::new(), &directory[..]);
    while rest.starts_with(ENTRY) {
        let (name, packed, next) = entry(rest).map_err(|problem| match problem {
            None => damaged(),
            Some(problem) => DataError::format(path, problem),
        })?;
        if packed.offset.checked_add(packed.size).is_none_or(|end| end > total) {
            return Err(damaged());
        }
        if !name.ends_with('/') {
            found.push((name, packed));
        }
        rest = &rest[next..];
    }
    Ok(found)
}

/// The entry that `bytes` begin with, and its length; why it cannot be read, or nothing where it is cut short.
fn entry(bytes: &[u8]) -> Result<(String, Packed, usize), Option<String>> {
    let field = |at, size| number(bytes, at, size).ok_or(None);
    let (flags, method, crc) = (field(8, 2)?, field(10, 2)?, field(16, 4)? as u32);
    let (mut packed, mut size, mut offset) = (field(20, 4)?, field(24, 4)?, field(42, 4)?);
    let [name, extra, comment] = [field(28, 2)?, field(30, 2)?, field(32, 2)?].map(|length| length as usize);
    let length = 46 + name + extra + comment;
    let whole = bytes.get(..length).ok_or(None)?;
    let (name, mut rest) = (String::from_utf8_lossy(&whole[46..46 + name]).into_owned(), &whole[46 + name..][..extra]);
    // fields that do not fit 32 bits are in a record of their own, in this order
    while rest.len() >= 4 {
        let (id, len) = (number(rest, 0, 2), number(rest, 2, 2).unwrap_or_default() as usize);
        let mut record = rest.get(4..4 + len).ok_or(None)?;
        for field in [&mut size, &mut packed, &mut offset] {
            if id == Some(1) && *field == u64::from(u32::MAX) {
                *field = number(record, 0, 8).ok_or(None)?;
                record = &record[8..];
            }
        }
        rest = &rest[4 + len..];
    }
    let problem = match method {
        _ if flags & 1 != 0 => "encrypted".to_owned(),
        0 | 8 => {
            return Ok((
                name,
                Packed { offset, size: packed, zip: Some(Zip { deflated: method == 8, size, crc }) },
                length,
            ));
        }
        other => format!("packed by method {other}"),
    };
    Err(Some(format!(
        "holds {name} {problem}, expected files that are stored or deflated: make the archive with `zip -r`"
    )))
}

/// The bytes of a file, for which `read` reads at a position of the archive. `path` is its own, for messages.
pub(super) fn unpacked(
    path: &Path, packed: &Packed, read: impl Fn(u64, &mut [u8]) -> std::io::Result<()>,
) -> Result<Vec<u8>, DataError> {
    let at = |offset: u64, size: u64| -> Result<Vec<u8>, DataError> {
        let mut bytes = vec![0; size as usize]; // no more than the archive holds
        read(offset, &mut bytes).map_err(DataError::io("read", path))?;
        Ok(bytes)
    };
    let Some(zip) = &packed.zip else { return at(packed.offset, packed.size) };
    let damaged =
        |what: &str| DataError::Decode { name: path.display().to_string(), reason: format!("{what} in the archive") };
    let head = at(packed.offset, 30)?;
    let lengths = number(&head, 26, 2).zip(number(&head, 28, 2)).filter(|_| head.starts_with(LOCAL));
    let (name, extra) = lengths.ok_or_else(|| damaged("has no head"))?;
    let bytes = at(packed.offset + 30 + name + extra, packed.size)?;
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

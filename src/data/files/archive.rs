//! The members of a tar archive, found without reading their data.
use super::links::Node;
use crate::error::DataError;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use tar::EntryType;

/// A file or link in an archive.
#[derive(Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Path, as the archive has it.
    pub name: String,
    /// What it is. A file has the number 0.
    pub node: Node,
    /// Where its data begin.
    pub offset: u64,
    /// Bytes of data.
    pub size: u64,
}

/// Every file and link of the archive `file`, in its order. Refuses an archive that is cut short, and files whose data
/// are stored sparse.
pub(crate) fn entries(path: &Path, file: &File) -> Result<Vec<Entry>, DataError> {
    let damaged = |e: std::io::Error| DataError::format(path, format!("is not a whole tar archive: {e}"));
    let total = file.metadata().map_err(DataError::io("look at", path))?.len();
    let mut handle = file;
    handle.seek(SeekFrom::Start(0)).map_err(DataError::io("read", path))?;
    let mut archive = tar::Archive::new(BufReader::new(handle));
    let mut found = Vec::new();
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (kind, offset, size) = (entry.header().entry_type(), entry.raw_file_position(), entry.size());
        // the size of a sparse file is that of the unpacked one
        if !kind.is_gnu_sparse() && offset.checked_add(size).is_none_or(|end| end > total) {
            let message = format!("is cut short: {name} needs {size} bytes at {offset}, the archive ends at {total}");
            return Err(DataError::format(path, message));
        }
        let target = || entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned());
        let node = match kind {
            EntryType::Link => Node::Hard(target().unwrap_or_default()),
            EntryType::Symlink => Node::Symbolic(target().unwrap_or_default()),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                if kind.is_gnu_sparse() || is_sparse(&mut entry) {
                    let advice = "make the archive without `tar -S`";
                    let message = format!("holds {name} as a sparse file, which is not read: {advice}");
                    return Err(DataError::format(path, message));
                }
                Node::File(0)
            }
            _ => continue,
        };
        found.push(Entry { name, node, offset, size });
    }
    Ok(found)
}

/// Whether PAX headers say that the data of a member are a map and what is not zero.
fn is_sparse(entry: &mut tar::Entry<impl Read>) -> bool {
    let mut keys = entry.pax_extensions().ok().flatten().into_iter().flatten().flatten();
    keys.any(|extension| extension.key_bytes().starts_with(b"GNU.sparse"))
}

/// Reads at a position without moving the cursor of the file, so that threads need no lock.
pub(crate) fn read_at(file: &File, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset);
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < bytes.len() {
            match std::os::windows::fs::FileExt::seek_read(file, &mut bytes[done..], offset + done as u64)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(())
    }
}

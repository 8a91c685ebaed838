//! What an archive holds, a tar or a zip: files and links by their paths, and where the bytes of each file lie.

use super::archive::{self, read_at};
use super::links::{Node, Nodes, normal};
use super::packed::{Packed, unpacked};
use crate::error::DataError;
use crate::zip;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest target of a symbolic link that a file system takes.
const LONGEST_LINK: u64 = 4096;

/// An open archive.
pub(super) struct Contents {
    pub path: PathBuf,
    pub file: Arc<File>,
    /// Files and links; the number of a file is its position in `places`. Of two members of one name the later counts.
    pub nodes: Nodes,
    pub places: Vec<Packed>,
}

impl Contents {
    /// A tar whose members are known.
    pub fn tar(path: &Path, file: File, members: Vec<archive::Entry>) -> Self {
        let (mut nodes, mut places) = (Nodes::new(), Vec::new());
        for archive::Entry { name, node, offset, size } in members {
            let node = match node {
                Node::File(_) => Node::File(places.len()),
                link => link,
            };
            places.push(Packed::plain(offset, size));
            nodes.insert(normal(&name), node);
        }
        Self { path: path.to_owned(), file: file.into(), nodes, places }
    }

    /// A zip.
    ///
    /// # Errors
    /// One that is cut short, encrypted, or packed in a way that is not read.
    pub fn zip(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("open", path))?;
        let total = file.metadata().map_err(DataError::io("look at", path))?.len();
        let read = |offset: u64, size: u64| {
            let mut bytes = vec![0; size as usize]; // no more than the archive holds
            read_at(&file, offset, &mut bytes).map_err(DataError::io("read", path))?;
            Ok(bytes)
        };
        let damaged = || {
            let advice = "copy it again, or unpack it and give the folder";
            DataError::format(path, format!("is not a whole zip archive: {advice}"))
        };
        let (mut nodes, mut places) = (Nodes::new(), Vec::new());
        for entry in zip::entries(total, read)?.ok_or_else(damaged)? {
            let name = String::from_utf8_lossy(&entry.name);
            let packed = Packed::zipped(&entry, total).map_err(|problem| match problem {
                None => damaged(),
                Some(problem) => {
                    let expected = "expected files that are stored or deflated: make the archive with `zip -r`";
                    DataError::format(path, format!("holds {name} {problem}, {expected}"))
                }
            })?;
            if name.ends_with('/') {
                continue;
            }
            let node = match entry.link {
                false => Node::File(places.len()),
                true if entry.size > LONGEST_LINK => {
                    let message = format!("{} bytes, expected at most {LONGEST_LINK}", entry.size);
                    return Err(DataError::format(path, format!("holds {name} as a link of {message}")));
                }
                true => {
                    let target = unpacked(&path.join(&*name), &packed, &file)?;
                    Node::Symbolic(String::from_utf8_lossy(&target).into_owned())
                }
            };
            nodes.insert(normal(&name), node);
            places.push(packed);
        }
        Ok(Self { path: path.to_owned(), file: file.into(), nodes, places })
    }
}

//! Compiled pipelines on disk, if the backend can export them: one file per adapter, driver, kernel and WGSL.
//!
//! A file has a line that identifies these four, a line with the checksum of the rest, and the driver's data. Files are
//! written atomically, so that several processes can share the folder. A file that is torn, altered or of another
//! identity is ignored with a warning.

use std::path::{Path, PathBuf};

use crate::files::{Durable, replace};
use crate::gpu::caps::Caps;
use crate::gpu::kernel::hash;

const FORMAT: &str = "rowscan-pipeline/1";

/// A folder of compiled pipelines of one adapter and driver.
#[derive(Debug)]
pub(super) struct PipelineCache {
    folder: PathBuf,
    adapter: String,
}

impl PipelineCache {
    /// Opens a cache in `folder`, which is created if necessary. `None`, with a warning, if that fails.
    pub fn open(folder: &Path, caps: &Caps) -> Option<Self> {
        if let Err(e) = std::fs::create_dir_all(folder) {
            tracing::warn!("cannot create {}: {e}; compiled pipelines are not kept on disk", folder.display());
            return None;
        }
        let adapter = format!("{} | {} | {}", caps.name, caps.backend, caps.driver).replace('\n', " ");
        Some(Self { folder: folder.into(), adapter })
    }

    /// The stored pipeline of a kernel compiled from this WGSL, if there is one.
    pub fn load(&self, kernel: &str, source: &str) -> Option<Vec<u8>> {
        let path = self.path(kernel, source);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
            Err(e) => {
                tracing::warn!("cannot read {}: {e}; compiling again", path.display());
                return None;
            }
        };
        let head = self.head(kernel, source);
        let rest = bytes.strip_prefix(head.as_bytes()).and_then(|rest| rest.split_at_checked(17));
        match rest {
            Some((sum, data)) if sum == format!("{:016x}\n", hash(&[data])).as_bytes() => Some(data.to_vec()),
            _ => {
                tracing::warn!("{} is damaged or of another kernel; compiling again", path.display());
                None
            }
        }
    }

    /// Stores the driver's `data` for a kernel compiled from this WGSL. If that fails, it only warns.
    pub fn store(&self, kernel: &str, source: &str, data: &[u8]) {
        let path = self.path(kernel, source);
        let head = format!("{}{:016x}\n", self.head(kernel, source), hash(&[data]));
        if let Err(e) = replace(&path, &[head.as_bytes(), data].concat(), Durable::No) {
            tracing::warn!("cannot write {}: {e}; the pipeline is not kept on disk", path.display());
        }
    }

    fn head(&self, kernel: &str, source: &str) -> String {
        format!("{FORMAT} | {} | {kernel} | {:016x}\n", self.adapter, hash(&[source.as_bytes()]))
    }

    /// File name: the kernel and 128 bits of hash over adapter, driver, kernel and WGSL (two FNV hashes of 64 bits, in
    /// opposite orders).
    fn path(&self, kernel: &str, source: &str) -> PathBuf {
        let parts = [self.adapter.as_bytes(), kernel.as_bytes(), source.as_bytes()];
        let reversed: Vec<&[u8]> = parts.iter().rev().copied().collect();
        self.folder.join(format!("{kernel}-{:016x}{:016x}.bin", hash(&parts), hash(&reversed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(folder: &Path, driver: &str) -> PipelineCache {
        PipelineCache::open(folder, &Caps { driver: driver.into(), ..Caps::portable() }).unwrap()
    }

    #[test]
    fn what_was_stored_is_loaded_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("made/here");
        let first = cache(&folder, "1.0");
        assert_eq!(first.load("add.forward", "fn main"), None);
        first.store("add.forward", "fn main", b"compiled");
        first.store("add.forward", "fn main", b"compiled again");
        assert_eq!(first.load("add.forward", "fn main").as_deref(), Some(&b"compiled again"[..]));
        let others = [(cache(&folder, "1.1"), "add.forward", "fn main")];
        let others = others.iter().map(|(c, k, s)| (c, *k, *s));
        for (other, kernel, source) in others.chain([(&first, "add.forward", "fn main2"), (&first, "add.b", "fn main")])
        {
            assert_eq!(other.load(kernel, source), None, "another driver, source or kernel");
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing temporary is left");
    }

    #[test]
    fn a_torn_or_altered_file_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path(), "1.0");
        cache.store("k.e", "source", &[7; 1000]);
        let path = cache.path("k.e", "source");
        let whole = std::fs::read(&path).unwrap();
        for at in [0, 30, whole.len() - 500, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(cache.load("k.e", "source"), None, "bit {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(cache.load("k.e", "source"), None, "length {at}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(cache.load("k.e", "source").map(|data| data.len()), Some(1000));
    }

    #[test]
    fn no_folder_is_no_cache() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(PipelineCache::open(&file.join("below"), &Caps::portable()).is_none());
    }
}

//! Files that hold their old or their new content, never half of it, and where caches lie.

use std::fs::File;
use std::io::{BufWriter, IntoInnerError, Result, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Prefix of the names of files that are being written. A process that is killed leaves them behind.
pub(crate) const WRITING: &str = ".writing-";

/// Whether a file has to be on the disk before its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    /// Yes: after a power cut the old or the new content is there. For what cannot be made again.
    Yes,
    /// No: after a power cut the file may be torn. For caches, which check what they read.
    No,
}

/// A file that takes the place of another when it is finished: no reader ever sees half of it, and on an error, such as
/// a full disk, the old file is still there. Dropped before, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Replacement {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl Replacement {
    /// A temporary file in the folder of `path`, which must exist.
    pub fn begin(path: &Path) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(WRITING);
        // temporary files are private by default; this one becomes an ordinary file, subject to the umask
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder_of(path)).map_err(|e| without_name(&e))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    /// Renames it over `path`.
    pub fn finish(self, durable: Durable) -> Result<()> {
        let Self { path, file } = self;
        let file = file.into_inner().map_err(IntoInnerError::into_error)?;
        if durable == Durable::Yes {
            file.as_file().sync_all()?;
        }
        file.persist(&path).map_err(|e| e.error)?;
        if durable == Durable::Yes {
            sync_folder(folder_of(&path))?;
        }
        Ok(())
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}

/// The error of the system inside one that also names a temporary file, which tells nobody anything.
fn without_name(e: &std::io::Error) -> std::io::Error {
    let inside = e.get_ref().and_then(|named| named.source()?.downcast_ref::<std::io::Error>());
    let code = inside.and_then(std::io::Error::raw_os_error);
    code.map_or_else(|| e.kind().into(), std::io::Error::from_raw_os_error)
}

/// The folder of a file.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Replaces `path` by `bytes` as a [`Replacement`] does.
pub(crate) fn replace(path: &Path, bytes: &[u8], durable: Durable) -> Result<()> {
    let mut file = Replacement::begin(path)?;
    file.write_all(bytes)?;
    file.finish(durable)
}

/// Puts the names in a folder on the disk. Windows cannot open folders for this, and journals renames itself.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The folder `rowscan/<name>` in the user's cache folder: `LOCALAPPDATA` on Windows, `Library/Caches` on macOS,
/// `XDG_CACHE_HOME` or `.cache` elsewhere. `None` if the environment names no home.
pub(crate) fn user_cache(name: &str) -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    };
    caches.map(|caches| caches.join("rowscan").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        for (content, durable) in [(&b"one"[..], Durable::Yes), (b"two, longer", Durable::No), (b"3", Durable::Yes)] {
            replace(&path, content, durable).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("no/where.txt"), b"", Durable::No).is_err());
    }
}

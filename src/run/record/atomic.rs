//! Files that are either the old or the new one, never half of it.
use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Replaces `path` by `bytes`: a temporary file in the same folder is written, synced and renamed over it.
///
/// The folder must exist. After a crash or a full disk the old content is still there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-");
    #[cfg(unix)]
    {
        // Temporary files are private by default; this one becomes an ordinary file, subject to the umask.
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(Error::io(folder, "written to"))?;
    file.write_all(bytes).map_err(Error::io(path, "written"))?;
    file.as_file().sync_all().map_err(Error::io(path, "written"))?;
    file.persist(path).map_err(|e| Error::io(path, "replaced")(e.error))?;
    #[cfg(unix)]
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder, "written"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        for content in [&b"one"[..], b"two, longer"] {
            write_atomic(&path, content).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = write_atomic(&dir.path().join("no/where.txt"), b"").unwrap_err().to_string();
        assert!(error.contains("no"), "{error}");
    }
}

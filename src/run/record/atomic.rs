//! Records that are either the old or the new one, never half of it.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::{Durable, Replacement, folder_of, replace};

/// Refuses files to be written whose folders do not exist, before the work that they are to hold.
///
/// # Errors
/// The first of them.
pub fn expect_folders<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    match files.into_iter().find(|file| !folder_of(file).is_dir()) {
        Some(file) => {
            let reason = format!("cannot be written: there is no folder {}, make it first", folder_of(file).display());
            Err(Error::file(file, reason))
        }
        None => Ok(()),
    }
}

/// Replaces `path` by `bytes`, so that after a crash, a power cut or a full disk the old or the new content is there.
/// The folder must exist.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, Durable::Yes).map_err(Error::io(path, "written"))
}

/// A text file that is written line by line, for records that do not have to fit in memory, and gets its name at the
/// end. Dropped before, it leaves nothing.
#[derive(Debug)]
pub struct LineFile {
    path: PathBuf,
    file: Replacement,
}

impl LineFile {
    /// A file that will replace `path`. The folder must exist.
    pub fn begin(path: &Path) -> Result<Self> {
        let file = Replacement::begin(path).map_err(Error::io(path, "written"))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Adds a line.
    pub fn line(&mut self, line: &str) -> Result<()> {
        writeln!(self.file, "{line}").map_err(Error::io(&self.path, "written"))
    }

    /// Gives the file its name.
    pub fn finish(self) -> Result<()> {
        self.file.finish(Durable::Yes).map_err(Error::io(&self.path, "written"))
    }
}

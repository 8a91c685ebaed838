//! The folder of a run: one run at a time writes there, and what a kill left half done is put right.

use std::fs;
use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};
use crate::run::checkpoint;

/// An output folder that this run alone writes to, until the value is dropped or the process ends.
#[derive(Debug)]
pub struct OutputDir {
    _lock: Option<File>,
}

impl OutputDir {
    /// Creates the folder if need be, and cleans up behind a run that was killed.
    ///
    /// # Errors
    /// When it cannot be created or read, or when another run is writing there.
    pub fn open(path: &Path) -> Result<Self> {
        if path.exists() && !path.is_dir() {
            return Err(Error::file(path, "is a file, expected a folder to write to"));
        }
        fs::create_dir_all(path).map_err(Error::io(path, "created"))?;
        let lock = lock(path)?;
        tidy(path)?;
        Ok(Self { _lock: lock })
    }

    /// An error if another run is writing to the folder: what it holds may be outdated before it has been read.
    pub fn expect_free(path: &Path) -> Result<()> {
        if path.is_dir() {
            lock(path)?; // and let go at once
        }
        Ok(())
    }
}

/// The lock of the folder itself; it ends with the process, however that ends. File systems without locks have none.
fn lock(path: &Path) -> Result<Option<File>> {
    if !cfg!(unix) {
        return Ok(None);
    }
    let folder = File::open(path).map_err(Error::io(path, "opened"))?;
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => Err(Error::file(path, "another run is writing there at this moment")),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Removes what was never finished; gives a checkpoint its name back if it was to be replaced but is not.
fn tidy(path: &Path) -> Result<()> {
    let failed = Error::io(path, "tidied up");
    for entry in fs::read_dir(path).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(checkpoint::PARTIAL) {
            fs::remove_dir_all(entry.path()).map_err(&failed)?;
        } else if name.starts_with(".writing-") {
            fs::remove_file(entry.path()).map_err(&failed)?;
        } else if let Some(kept) = name.strip_prefix(checkpoint::OLD) {
            let replaced = path.join(kept);
            if checkpoint::state_of_whole(&replaced).is_err() {
                if replaced.exists() {
                    checkpoint::remove(&replaced)?;
                }
                fs::rename(entry.path(), replaced).map_err(&failed)?;
            } else {
                fs::remove_dir_all(entry.path()).map_err(&failed)?;
            }
        }
    }
    Ok(())
}

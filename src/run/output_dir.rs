//! The output folder of a run. One run at a time writes there, and the next one repairs what a killed run left half
//! done.

use std::fs;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::files::WRITING;
use crate::run::checkpoint;

/// An output folder that is locked for this run, until the value is dropped or the process ends.
#[derive(Debug)]
pub struct OutputDir {
    _lock: Option<File>,
}

impl OutputDir {
    /// Creates the folder if it does not exist, locks it, and cleans up behind a run that was killed.
    ///
    /// # Errors
    /// A folder that cannot be created or read, or to which another run is writing.
    pub fn open(path: &Path) -> Result<Self> {
        if path.exists() && !path.is_dir() {
            return Err(Error::file(path, "is a file, expected a folder to write to"));
        }
        fs::create_dir_all(path).map_err(Error::io(path, "created"))?;
        let lock = lock(path)?;
        tidy(path)?;
        Ok(Self { _lock: lock })
    }

    /// An error if another run is writing to the folder. Reading it would be a race: a checkpoint could be replaced
    /// meanwhile.
    pub fn expect_free(path: &Path) -> Result<()> {
        if path.is_dir() {
            lock(path)?; // and let go at once
        }
        Ok(())
    }
}

/// How long a folder may stay locked before a run gives up. A killed process keeps its lock until the system has taken
/// its memory apart and written what it was writing, seconds on a busy disk; and a scheduler may start the next run at
/// once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Locks the folder itself. The lock ends with the process, however that ends. `None` on file systems without locks.
fn lock(path: &Path) -> Result<Option<File>> {
    if !cfg!(unix) {
        return Ok(None);
    }
    let folder = File::open(path).map_err(Error::io(path, "opened"))?;
    let (since, mut said) = (Instant::now(), false);
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if since.elapsed() > PATIENCE => {
                return Err(Error::file(path, "another run is writing there at this moment"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
        if !said && since.elapsed() > Duration::from_secs(1) {
            said = true;
            let (path, patience) = (path.display(), PATIENCE.as_secs());
            tracing::warn!("{path}: another run is writing there; waiting {patience} s at most for it to end");
        }
    }
}

/// Removes unfinished files and folders. A checkpoint whose replacement was not finished gets its name back.
fn tidy(path: &Path) -> Result<()> {
    let failed = Error::io(path, "tidied up");
    for entry in fs::read_dir(path).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(checkpoint::PARTIAL) {
            fs::remove_dir_all(entry.path()).map_err(&failed)?;
        } else if name.starts_with(WRITING) {
            fs::remove_file(entry.path()).map_err(&failed)?;
        } else if let Some(kept) = name.strip_prefix(checkpoint::OLD) {
            let replaced = path.join(kept);
            if checkpoint::read_complete_state(&replaced).is_err() {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that was just killed is waited for.
    #[test]
    fn a_folder_is_taken_once_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let held = OutputDir::open(dir.path()).unwrap();
        let since = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                drop(held);
            });
            OutputDir::open(dir.path()).unwrap();
        });
        assert!(since.elapsed() >= Duration::from_millis(100));
    }
}

//! Tuning results of a device: the number of the fastest variant, by a name. They are kept as long as the device, and
//! also on disk if it was opened with a folder.
//!
//! Each adapter and driver has one JSON file, which is written atomically. Several processes can share it: a write
//! keeps the entries of the others. A file that cannot be read is ignored with a warning, and the next write replaces
//! it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::files::{Durable, replace};
use crate::gpu::caps::Caps;
use crate::gpu::lock::lock;

type Chosen = BTreeMap<String, u32>;

/// Tuning results by name.
#[derive(Debug, Default)]
pub(super) struct Choices {
    known: Mutex<Chosen>,
    file: Option<PathBuf>,
}

impl Choices {
    /// The choices stored in `folder` for this adapter and driver; none if there is no file.
    pub fn open(folder: &Path, caps: &Caps) -> Self {
        let adapter = format!("{} {} {}", caps.name, caps.backend, caps.driver);
        let word = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let file = folder.join(format!("choices-{}.json", adapter.chars().map(word).collect::<String>()));
        Self { known: Mutex::new(read(&file)), file: Some(file) }
    }

    pub fn get(&self, name: &str) -> Option<u32> {
        lock(&self.known).get(name).copied()
    }

    /// All of them.
    pub fn all(&self) -> Chosen {
        lock(&self.known).clone()
    }

    /// Stores `new` in memory, and on disk if there is a folder.
    pub fn extend(&self, new: Chosen) {
        let mut known = lock(&self.known);
        known.extend(new);
        let Some(file) = &self.file else { return };
        let mut all = read(file);
        all.extend(known.clone());
        if let Err(e) = write(file, &all) {
            tracing::warn!("cannot write {}: {e}; the tuning results are not kept on disk", file.display());
        }
    }
}

fn read(file: &Path) -> Chosen {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Chosen::new(),
        Err(e) => {
            tracing::warn!("cannot read {}: {e}; measuring again", file.display());
            return Chosen::new();
        }
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|e| {
        tracing::warn!("{} holds no tuning results ({e}); measuring again", file.display());
        Chosen::new()
    })
}

fn write(file: &Path, all: &Chosen) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    replace(file, &serde_json::to_vec_pretty(all)?, Durable::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(folder: &Path, driver: &str) -> Choices {
        Choices::open(folder, &Caps { driver: driver.into(), ..Caps::portable() })
    }

    fn chosen(name: &str, value: u32) -> Chosen {
        [(name.to_string(), value)].into()
    }

    #[test]
    fn choices_outlive_the_process_by_adapter_and_driver() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("made/here");
        let (first, second) = (choices(&folder, "1.0 (a/b)"), choices(&folder, "1.0 (a/b)"));
        first.extend(chosen("one", 1));
        second.extend(chosen("two", 2));
        let third = choices(&folder, "1.0 (a/b)");
        assert_eq!((third.get("one"), third.get("two"), third.get("three")), (Some(1), Some(2), None));
        assert_eq!(choices(&folder, "1.1 (a/b)").get("one"), None);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing temporary is left");
    }

    #[test]
    fn a_broken_file_is_replaced_and_no_folder_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        choices(dir.path(), "1").extend(chosen("one", 1));
        let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        std::fs::write(&file, b"{\"one\": ").unwrap();
        let again = choices(dir.path(), "1");
        assert_eq!(again.get("one"), None);
        again.extend(chosen("two", 2));
        assert_eq!(choices(dir.path(), "1").get("two"), Some(2));
        let nowhere = choices(&file, "1"); // a file where the folder should be
        nowhere.extend(chosen("one", 7));
        assert_eq!(nowhere.get("one"), Some(7));
        assert_eq!(Choices::default().get("one"), None);
    }
}

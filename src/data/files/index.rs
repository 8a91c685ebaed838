//! What lies below a folder, remembered: listing a million files takes minutes on a disk of a network, and looking at
//! the folders that hold them takes seconds.
//!
//! A listing is kept in the user's cache folder with size and time of change of every folder that was searched. It
//! counts as long as none of them has changed: whatever is added, removed or renamed changes the time of its folder.
use super::walk::{Files, Kind, search};
use crate::error::DataError;
use crate::files::{Durable, replace, user_cache};
use std::collections::hash_map::DefaultHasher;
use std::fs::Metadata;
use std::hash::{Hash, Hasher};
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const FORMAT: &str = "rowscan-listing/1";

/// Files below a folder from which on a listing is kept: fewer are listed in no time.
const FEW: usize = 10_000;

/// A folder that changed less than this before it was searched may change again without its time showing it.
const RACE: Duration = Duration::from_secs(3);

static RESCAN: AtomicBool = AtomicBool::new(false);

/// From now on, folders are listed anew, whatever listing was kept of them.
pub fn rescan() {
    RESCAN.store(true, Ordering::Relaxed);
}

/// Everything below `root`, from the listing that was kept of it if that is still true.
pub(crate) fn listed(root: &Path) -> Result<Files, DataError> {
    listed_in(root, folder().as_deref(), FEW, RESCAN.load(Ordering::Relaxed))
}

fn listed_in(root: &Path, cache: Option<&Path>, few: usize, rescan: bool) -> Result<Files, DataError> {
    let (Some(cache), Some(real)) = (cache, root.canonicalize().ok().and_then(|real| Some(real.to_str()?.to_owned())))
    else {
        return search(root);
    };
    let mut hasher = DefaultHasher::new();
    real.hash(&mut hasher);
    let file = cache.join(format!("{:016x}.txt", hasher.finish()));
    if !rescan && let Some(found) = std::fs::read_to_string(&file).ok().and_then(|text| kept(root, &real, &text)) {
        tracing::debug!("{}: listed as in {}", root.display(), file.display());
        return Ok(found);
    }
    let begun = SystemTime::now();
    let found = search(root)?;
    let count = found.images.len() + found.shards.len() + found.tables.len();
    let written = match written(&real, &found, begun) {
        Some(text) if count >= few => {
            std::fs::create_dir_all(cache).and_then(|()| replace(&file, text.as_bytes(), Durable::No))
        }
        _ if file.exists() => std::fs::remove_file(&file),
        _ => Ok(()),
    };
    if let Err(e) = written {
        tracing::warn!("cannot write {}: {e}; {} is listed anew each time", file.display(), root.display());
    }
    Ok(found)
}

/// Size and time of change of a folder.
fn state(metadata: &Metadata) -> std::io::Result<(u64, u128)> {
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH).map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
    Ok((metadata.len(), changed.as_nanos()))
}

/// The text of a listing; none if it could not be read back or could not be trusted.
fn written(real: &str, found: &Files, begun: SystemTime) -> Option<String> {
    let names = || [&found.images, &found.shards, &found.tables].into_iter().flatten().map(|(name, _)| name.as_str());
    let broken = |name: &str| name.contains(['\n', '\r']);
    if found.odd_names || broken(real) || names().any(broken) || found.folders.iter().any(|(name, _)| broken(name)) {
        return None;
    }
    let mut text = format!("{FORMAT}\n{real}\n{}\n", found.folders.len());
    for (name, metadata) in &found.folders {
        if metadata.modified().ok()?.checked_add(RACE)? > begun {
            return None;
        }
        let (size, changed) = state(metadata).ok()?;
        text += &format!("{size} {changed} {name}\n");
    }
    names().for_each(|name| text.extend([name, "\n"]));
    text += "end";
    Some(text)
}

/// The listing in `text`, if it is of the folder `real` and every folder is as it was.
fn kept(root: &Path, real: &str, text: &str) -> Option<Files> {
    let mut lines = text.strip_suffix("\nend")?.lines();
    if lines.next()? != FORMAT || lines.next()? != real {
        return None;
    }
    let mut found = Files::default();
    for _ in 0..lines.next()?.parse::<usize>().ok()? {
        let mut parts = lines.next()?.splitn(3, ' ');
        let (size, changed, name) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        let now = std::fs::metadata(root.join(name)).ok()?;
        if state(&now).ok()? != (size, changed) {
            return None;
        }
        found.folders.push((name.to_owned(), now));
    }
    for name in lines {
        found.push(Kind::of(name)?, name.to_owned(), root.join(name));
    }
    Some(found)
}

/// Where listings are kept: `rowscan/listings` in the user's cache folder.
fn folder() -> Option<PathBuf> {
    user_cache("listings")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::data::testing::put;
    use std::fs::{File, FileTimes};

    /// Makes all folders below `root` an hour old.
    fn age(root: &Path) {
        let hour = SystemTime::now() - Duration::from_secs(3600);
        for (name, _) in search(root).unwrap().folders {
            File::open(root.join(name)).unwrap().set_times(FileTimes::new().set_modified(hour)).unwrap();
        }
    }

    fn names(found: &Files) -> Vec<String> {
        let mut names: Vec<String> = found.images.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_listing_is_kept_until_something_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (root, cache) = (dir.path().join("set"), dir.path().join("cache"));
        for name in ["a/1.png", "a/2.png", "b/c/3.png", "b/x.tar", "b/notes.txt"] {
            put(&root.join(name), b"");
        }
        let list = |rescan| listed_in(&root, Some(&cache), 3, rescan).unwrap();
        list(false);
        assert!(!cache.exists(), "folders that changed just now are not remembered");
        age(&root);
        let first = list(false);
        let file = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
        // what is kept is what is read: with another name in it, that name comes back
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("a/2.png", "a/9.png")).unwrap();
        assert_eq!(names(&list(false)), ["a/1.png", "a/9.png", "b/c/3.png"]);
        assert_eq!(list(false).shards, first.shards);
        assert_eq!(names(&list(true)), ["a/1.png", "a/2.png", "b/c/3.png"], "when asked to");
        // torn, of another folder, of a later version: listed anew
        for bad in [&text[..text.len() / 2], &text.replace("listing/1", "listing/2"), &text.replace("set", "sat"), ""] {
            std::fs::write(&file, bad).unwrap();
            assert_eq!(names(&list(false)).len(), 3, "{bad}");
        }
        for (change, count) in [("b/c/4.png", 4), ("d/5.png", 5), ("a/6.png", 6)] {
            age(&root);
            list(false);
            put(&root.join(change), b"");
            assert_eq!(names(&list(false)).len(), count, "{change}");
        }
        age(&root);
        list(false);
        std::fs::remove_file(root.join("b/c/4.png")).unwrap();
        assert_eq!(names(&list(false)).len(), 5);
    }

    #[test]
    fn small_sets_and_odd_names_are_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let (root, cache) = (dir.path().join("set"), dir.path().join("cache"));
        put(&root.join("a/1.png"), b"");
        age(&root);
        listed_in(&root, Some(&cache), 2, false).unwrap();
        put(&root.join("a/new\nline.png"), b"");
        age(&root);
        assert_eq!(listed_in(&root, Some(&cache), 1, false).unwrap().images.len(), 2);
        assert!(!cache.exists());
    }
}

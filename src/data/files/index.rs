//! What lies below a folder, remembered: listing a million files takes minutes on a disk of a network, and looking at
//! the folders that hold them takes seconds.
//!
//! A listing is kept in the user's cache folder with size and time of change of every folder that was searched. It
//! counts as long as none of them has changed: whatever is added, removed or renamed changes the time of its folder.
use super::cache::{Cache, state};
use super::walk::{Files, Kind, search};
use crate::error::DataError;
use std::path::Path;
use std::time::SystemTime;

const FORMAT: &str = "rowscan-listing/2";

/// Everything below `root`, from the listing that was kept of it if that is still true.
pub(crate) fn listed(root: &Path, cache: &Cache) -> Result<Files, DataError> {
    let real = root.canonicalize().ok().and_then(|real| Some(real.to_str()?.to_owned()));
    let Some((file, real)) = real.and_then(|real| Some((cache.file(&real, "txt")?, real))) else {
        return search(root);
    };
    if !cache.anew
        && let Some(found) = std::fs::read_to_string(&file).ok().and_then(|text| kept(root, &real, &text))
    {
        tracing::debug!("{}: listed as in {}", root.display(), file.display());
        return Ok(found);
    }
    let begun = SystemTime::now();
    let found = search(root)?;
    let count = found.images.len() + found.shards.len() + found.tables.len() + found.clouds.len();
    let text = written(&real, &found, begun).filter(|_| count >= cache.few);
    cache.keep(&file, text.as_deref().map(str::as_bytes), root);
    Ok(found)
}

/// The text of a listing; none if it could not be read back or could not be trusted.
fn written(real: &str, found: &Files, begun: SystemTime) -> Option<String> {
    let all = [&found.images, &found.shards, &found.tables, &found.clouds];
    let names = || all.into_iter().flatten().map(|(name, _)| name.as_str());
    let broken = |name: &str| name.contains(['\n', '\r']);
    if found.odd_names || broken(real) || names().any(broken) || found.folders.iter().any(|(name, _)| broken(name)) {
        return None;
    }
    let mut text = format!("{FORMAT}\n{real}\n{}\n", found.folders.len());
    for (name, metadata) in &found.folders {
        let (size, changed) = state(metadata, begun).ok()?;
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
        if state(&now, SystemTime::now()).ok()? != (size, changed) {
            return None;
        }
        found.folders.push((name.to_owned(), now));
    }
    for name in lines {
        found.push(Kind::of(name)?, name.to_owned(), root.join(name));
    }
    Some(found)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::data::testing::put;
    use std::fs::{File, FileTimes};
    use std::time::Duration;

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
        let list = |anew| listed(&root, &Cache { folder: Some(cache.clone()), few: 3, anew }).unwrap();
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
        for bad in [&text[..text.len() / 2], &text.replace("listing/2", "listing/3"), &text.replace("set", "sat"), ""] {
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
        let list = |few| listed(&root, &Cache { folder: Some(cache.clone()), few, anew: false }).unwrap();
        list(2);
        put(&root.join("a/new\nline.png"), b"");
        age(&root);
        assert_eq!(list(1).images.len(), 2);
        assert!(!cache.exists());
    }
}

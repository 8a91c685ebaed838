//! What was read of a data set, remembered: a listing of a million files, the headers of a thousand shards. It is kept
//! in the user's cache folder with size and time of change of what it was read from, and counts until they change.
use crate::error::DataError;
use crate::files::{Durable, replace, user_cache};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::hash_map::DefaultHasher;
use std::fs::Metadata;
use std::hash::{Hash, Hasher};
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Raise it when something else is read out of the same file.
const FORMAT: &str = "rowscan-contents/1";

/// Images from which on a set is remembered: fewer are read in no time.
const FEW: usize = 10_000;

/// What changed less than this before it was read may change again without its time showing it.
const RACE: Duration = Duration::from_secs(3);

static RESCAN: AtomicBool = AtomicBool::new(false);

/// From now on, data sets are looked through anew, whatever was remembered of them.
pub fn rescan() {
    RESCAN.store(true, Ordering::Relaxed);
}

/// Where and from which size on sets are remembered.
pub(crate) struct Cache {
    /// `None` where the user has no cache folder.
    pub folder: Option<PathBuf>,
    pub few: usize,
    /// Whether what was remembered does not count.
    pub anew: bool,
}

impl Cache {
    /// `rowscan/listings` in the user's cache folder.
    pub fn of_user() -> Self {
        Self { folder: user_cache("listings"), few: FEW, anew: RESCAN.load(Ordering::Relaxed) }
    }

    /// `rowscan/clouds` in the user's cache folder, for points that were prepared.
    pub fn of_clouds() -> Self {
        Self { folder: user_cache("clouds"), few: 0, anew: RESCAN.load(Ordering::Relaxed) }
    }

    /// The file for what is remembered of `key`, with this ending.
    pub fn file(&self, key: impl Hash, ending: &str) -> Option<PathBuf> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        Some(self.folder.as_ref()?.join(format!("{:016x}.{ending}", hasher.finish())))
    }

    /// Writes `text` to `file`, or removes the file where there is nothing to remember. `what` is for a warning.
    pub fn keep(&self, file: &Path, text: Option<&[u8]>, what: &Path) {
        let written = match text {
            Some(text) => self.folder.as_ref().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
                replace(file, text, Durable::No) // torn: what is read is checked
            }),
            None if file.exists() => std::fs::remove_file(file),
            None => Ok(()),
        };
        if let Err(e) = written {
            tracing::warn!("cannot write {}: {e}; {} is read anew each time", file.display(), what.display());
        }
    }

    /// What `read` finds in each of the files `paths`, or found when they were last the same. Files are read in
    /// parallel. `kind` says what is read; `count` how many images it is of; `fits` whether something remembered can be
    /// of file `i`, which has a certain size, so that nothing damaged is believed.
    pub fn contents<T: Serialize + DeserializeOwned + Send>(
        &self, kind: &str, paths: &[PathBuf], count: impl Fn(&T) -> usize, fits: impl Fn(usize, &T, u64) -> bool,
        read: impl Fn(usize) -> Result<T, DataError> + Sync,
    ) -> Result<Vec<T>, DataError> {
        let names: Option<Vec<String>> =
            paths.iter().map(|path| Some(path.canonicalize().ok()?.to_str()?.to_owned())).collect();
        let file = names.as_ref().and_then(|names| self.file((kind, names), "json"));
        let begun = SystemTime::now();
        let states: Vec<Option<(u64, u64)>> =
            paths.iter().map(|path| state(&path.metadata().ok()?, begun).ok()).collect();
        let known = file.as_ref().filter(|_| !self.anew).and_then(|file| kept::<T>(file));
        let mut known = known.filter(|known| Some(&known.names) == names.as_ref()).map_or(Vec::new(), |k| k.contents);
        known.resize_with(paths.len(), || None);
        for (i, slot) in known.iter_mut().enumerate() {
            let same = |(state, content): &(_, T)| Some(*state) == states[i] && fits(i, content, state.0);
            slot.take_if(|kept| !same(kept));
        }
        let (found, anew): (Vec<_>, Vec<_>) = known.into_iter().enumerate().partition(|(_, kept)| kept.is_some());
        if anew.is_empty() {
            tracing::debug!("{}: {kind} as they were remembered", paths[0].display());
            return Ok(found.into_iter().filter_map(|(_, kept)| Some(kept?.1)).collect());
        }
        let read = |(i, _)| Ok((i, read(i)?));
        let read: Result<Vec<(usize, T)>, DataError> = anew.into_par_iter().with_max_len(1).map(read).collect();
        let mut all = read?;
        all.extend(found.into_iter().filter_map(|(i, kept)| Some((i, kept?.1))));
        all.sort_by_key(|(i, _)| *i);
        let all: Vec<T> = all.into_iter().map(|(_, content)| content).collect();
        if let (Some(file), Some(names)) = (file, names) {
            let contents =
                all.iter().zip(&states).map(|(content, state)| state.map(|state| (state, content))).collect();
            let many = all.iter().map(count).sum::<usize>() >= self.few;
            let text = many.then(|| serde_json::to_vec(&Kept { format: FORMAT.to_owned(), names, contents }).ok());
            self.keep(&file, text.flatten().as_deref(), &paths[0]);
        }
        Ok(all)
    }
}

/// What was found in some files: for each its size and time of change; `None` where it had changed just before.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    format: String,
    names: Vec<String>,
    contents: Vec<Option<((u64, u64), T)>>,
}

fn kept<T: DeserializeOwned>(file: &Path) -> Option<Kept<T>> {
    let kept: Kept<T> = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (kept.format == FORMAT && kept.contents.len() == kept.names.len()).then_some(kept)
}

/// Size, and time of change in nanoseconds, of what was read from `begun` on.
///
/// # Errors
/// A change so shortly before that a later one could have the same time.
pub(crate) fn state(metadata: &Metadata, begun: SystemTime) -> std::io::Result<(u64, u64)> {
    let changed = metadata.modified()?;
    let nanoseconds = changed.duration_since(UNIX_EPOCH).ok().and_then(|time| u64::try_from(time.as_nanos()).ok());
    let late = changed.checked_add(RACE).is_none_or(|settled| settled > begun);
    nanoseconds.filter(|_| !late).map(|time| (metadata.len(), time)).ok_or_else(|| Error::from(ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::super::parquet::Parquet;
    use super::super::tar::remembered;
    use super::super::webdataset::WebDataset;
    use super::*;
    use crate::data::source::Source;
    use crate::data::testing::put;
    use std::fs::{File, FileTimes};
    use std::sync::atomic::AtomicUsize;

    /// Writes a file that is some hours old.
    fn old(path: &Path, bytes: &[u8], hours: u64) {
        put(path, bytes);
        let time = UNIX_EPOCH + Duration::from_secs(1_600_000_000 + 3600 * hours);
        File::options().append(true).open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    }

    #[test]
    fn files_are_read_once_until_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..3).map(|i| dir.path().join(format!("{i}.txt"))).collect();
        paths.iter().zip(["a", "bb", "ccc"]).for_each(|(path, text)| old(path, text.as_bytes(), 0));
        let folder = dir.path().join("cache");
        let cache = |few, anew| Cache { folder: Some(folder.clone()), few, anew };
        let get = |cache: Cache, paths: &[PathBuf]| {
            let reads = AtomicUsize::new(0);
            let read = |i: usize| {
                reads.fetch_add(1, Ordering::Relaxed);
                std::fs::read_to_string(&paths[i]).map_err(DataError::io("read", &paths[i]))
            };
            let found = cache.contents("text", paths, String::len, |_, text, size| text.len() as u64 == size, read);
            (found.unwrap().join(" "), reads.into_inner())
        };
        let is =
            |(text, reads): (String, usize), expected: &str, count| assert_eq!((&text[..], reads), (expected, count));
        is(get(cache(7, false), &paths), "a bb ccc", 3);
        assert!(!folder.exists(), "six letters are few");
        is(get(cache(6, false), &paths), "a bb ccc", 3);
        is(get(cache(6, false), &paths), "a bb ccc", 0);
        is(get(cache(6, false), &paths[1..]), "bb ccc", 2); // another set
        is(get(cache(6, true), &paths), "a bb ccc", 3); // when asked to
        old(&paths[1], b"BB", 0); // what no time and no size shows
        is(get(cache(6, false), &paths), "a bb ccc", 0);
        old(&paths[1], b"BB", 1);
        is(get(cache(6, false), &paths), "a BB ccc", 1); // only what changed is read
        is(get(cache(6, false), &paths), "a BB ccc", 0);
        put(&paths[0], b"x");
        is(get(cache(6, false), &paths), "x BB ccc", 1);
        is(get(cache(6, false), &paths), "x BB ccc", 1); // it changed just now, and may again
        old(&paths[0], b"a", 2);
        get(cache(6, false), &paths);
        let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        // torn, of a later version, of other files, of what cannot be in a file of its size
        for (bad, reads) in [(&text[..text.len() / 2], 3), (&text.replace("contents/1", "contents/2"), 3)]
            .into_iter()
            .chain([(&text.replace(".txt", ".png")[..], 3), (&text.replace("\"BB\"", "\"longer\""), 1), ("", 3)])
        {
            std::fs::write(&file, bad).unwrap();
            is(get(cache(6, false), &paths), "a BB ccc", reads);
        }
        std::fs::remove_file(&paths[2]).unwrap();
        let gone = cache(6, false).contents(
            "text",
            &paths,
            String::len,
            |_, _, _| true,
            |i| std::fs::read_to_string(&paths[i]).map_err(DataError::io("read", &paths[i])),
        );
        assert!(gone.unwrap_err().to_string().contains("2.txt"));
    }

    /// The headers of archives and the classes of tables are not looked at again.
    #[test]
    fn sets_in_several_files_start_from_what_was_found() {
        let dir = tempfile::tempdir().unwrap();
        let (tar, table) = (dir.path().join("0.tar"), dir.path().join("0.parquet"));
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data");
        let shard = std::fs::read(fixtures.join("webdataset/train-000000.tar")).unwrap();
        let parquet = std::fs::read(fixtures.join("parquet/none.parquet")).unwrap();
        let cache = |anew| Cache { folder: Some(dir.path().join("cache")), few: 1, anew };
        let labels = |set: &dyn Source| (0..set.len()).filter_map(|i| set.label(i)).collect::<Vec<_>>();
        let shards = |anew| WebDataset::open(&tar, vec![tar.clone()], &cache(anew)).map(|set| labels(&set));
        let tables = |anew| Parquet::open(&table, vec![table.clone()], &cache(anew)).map(|set| labels(&set));
        let members = |anew| remembered(&tar, &File::open(&tar).unwrap(), &cache(anew)).map(|found| found.len());
        old(&tar, &shard, 0);
        old(&table, &parquet, 0);
        let (in_shards, in_tables, in_tar) = (shards(false).unwrap(), tables(false).unwrap(), members(false).unwrap());
        assert_eq!((&in_shards[..], in_tables.len(), in_tar > 4), (&[0, 1, 2, 0][..], 12, true));
        // files of the same size and time with nothing in them, but for the footer of the table
        old(&tar, &vec![7; shard.len()], 0);
        let footer =
            parquet.len() - 8 - u32::from_le_bytes(*parquet[parquet.len() - 8..].first_chunk().unwrap()) as usize;
        old(&table, &[&vec![7; footer], &parquet[footer..]].concat(), 0);
        assert_eq!(shards(false).unwrap(), in_shards);
        assert_eq!(tables(false).unwrap(), in_tables);
        assert_eq!(members(false).unwrap(), in_tar);
        assert!(shards(true).is_err() && tables(true).is_err() && members(true).is_err());
    }
}

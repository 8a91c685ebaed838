//! Clouds as the first visit prepared them, kept in the user's cache folder. Parsing 10,000 lines, farthest point
//! sampling and drawing from a mesh take a hundred times as long as reading the points that come out.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::Hasher;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::data::files::cache::{Cache, state};
use crate::error::DataError;
use crate::files::{Durable, replace};

/// Begins every file. Raise the number when clouds are prepared in another way.
const FORMAT: &[u8; 8] = b"rscloud1";

/// Bytes of a file from which on its points are kept: smaller ones are prepared in no time.
const SMALL: u64 = 1 << 14;

/// The points that `prepare` makes of the bytes of `path`, or made when the file was last the same. `kind` tells apart
/// what is made of one file in several ways.
pub(super) fn points(
    cache: &Cache, path: &Path, kind: (&str, usize), prepare: impl FnOnce(&[u8]) -> Result<Vec<[f32; 3]>, DataError>,
) -> Result<Vec<[f32; 3]>, DataError> {
    let begun = SystemTime::now();
    let known = path.metadata().and_then(|metadata| state(&metadata, begun)).ok().filter(|(size, _)| *size >= SMALL);
    let place = known.and_then(|state| Some((state, cache.file((path.canonicalize().ok()?, kind), "points")?)));
    if let Some((state, file)) = place.as_ref().filter(|_| !cache.anew)
        && let Some(points) = fs::read(file).ok().and_then(|bytes| unpacked(&bytes, *state))
    {
        return Ok(points);
    }
    let points = prepare(&fs::read(path).map_err(DataError::io("read", path))?)?;
    if let Some((state, file)) = place {
        keep(&file, &packed(&points, state));
    }
    Ok(points)
}

/// Writes a file; a failure is told once, as a set has thousands.
fn keep(file: &Path, bytes: &[u8]) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
    if let Err(e) = folder.and_then(|()| replace(file, bytes, Durable::No))
        && !TOLD.swap(true, Ordering::Relaxed)
    {
        tracing::warn!("cannot write {}: {e}; clouds are prepared anew each time", file.display());
    }
}

/// [`FORMAT`], size and time of the file that the points are from, their hash, the points.
fn packed(points: &[[f32; 3]], (size, time): (u64, u64)) -> Vec<u8> {
    let body: &[u8] = bytemuck::cast_slice(points);
    [&FORMAT[..], &size.to_le_bytes(), &time.to_le_bytes(), &hash(body).to_le_bytes(), body].concat()
}

/// The points, unless they are from another file, or damaged.
fn unpacked(bytes: &[u8], (size, time): (u64, u64)) -> Option<Vec<[f32; 3]>> {
    let (head, body) = bytes.split_at_checked(32)?;
    let number = |at: usize| head[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let same = &head[..8] == FORMAT && number(8)? == size && number(16)? == time && number(24)? == hash(body);
    (same && body.len().is_multiple_of(12)).then(|| bytemuck::pod_collect_to_vec(body))
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::{File, FileTimes};
    use std::time::Duration;

    use super::*;
    use crate::data::testing::put;

    #[test]
    fn clouds_are_prepared_once_until_their_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chair.txt");
        let write = |bytes: &[u8], hours: u64| {
            put(&path, bytes);
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + 3600 * hours);
            File::options().append(true).open(&path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
        };
        let cache = |anew| Cache { folder: Some(dir.path().join("cache")), few: 0, anew };
        let prepared = Cell::new(0);
        let get = |anew, kind| {
            let make = |bytes: &[u8]| {
                prepared.set(prepared.get() + 1);
                Ok(vec![[f32::from(bytes[0]), 0.5, -1.0]; 3])
            };
            let found = points(&cache(anew), &path, kind, make).unwrap();
            assert_eq!(found.len(), 3);
            (found[2][0], prepared.replace(0))
        };
        write(&[7; 100], 0);
        assert_eq!((get(false, ("", 0)), get(false, ("", 0))), ((7.0, 1), (7.0, 1)), "a small file is not kept");
        write(&[7; 20_000], 0);
        assert_eq!((get(false, ("", 0)), get(false, ("", 0))), ((7.0, 1), (7.0, 0)));
        assert_eq!((get(false, ("", 1)), get(false, ("far", 0))), ((7.0, 1), (7.0, 1)), "made in another way");
        assert_eq!(get(true, ("", 0)), (7.0, 1), "when asked to");
        write(&[8; 20_000], 1);
        assert_eq!((get(false, ("", 0)), get(false, ("", 0))), ((8.0, 1), (8.0, 0)), "the file changed");
        let kept = cache(false).file((path.canonicalize().unwrap(), ("", 0_usize)), "points").unwrap();
        let mut bytes = fs::read(&kept).unwrap();
        bytes[40] ^= 1;
        fs::write(&kept, &bytes[..]).unwrap();
        assert_eq!(get(false, ("", 0)), (8.0, 1), "damaged");
        fs::write(&kept, &bytes[..20]).unwrap();
        assert_eq!(get(false, ("", 0)), (8.0, 1), "torn");
        write(&[9; 20_000], 2);
        File::options().append(true).open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
        assert_eq!((get(false, ("", 0)), get(false, ("", 0))), ((9.0, 1), (9.0, 1)), "it may change again unseen");
    }
}

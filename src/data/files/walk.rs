//! All images, shards and tables below a folder, each of them once, whatever links there are.
use super::clouds::is_cloud_name;
use super::decode::is_image_name;
use super::listing::split_of;
use crate::error::DataError;
use std::fs::{self, DirEntry, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Folders inside each other at most. A file system without links ends sooner; a broken one may not.
const DEEPEST: usize = 512;

/// What a file holds, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An image.
    Image,
    /// A tar archive of samples.
    Shard,
    /// A Parquet file.
    Table,
    /// A point cloud or a mesh.
    Cloud,
}

impl Kind {
    /// `None` for what no layout reads.
    pub fn of(name: &str) -> Option<Self> {
        let ends = |end: &str| name.len() > end.len() && name.to_ascii_lowercase().ends_with(end);
        match () {
            () if is_image_name(name) => Some(Self::Image),
            () if ends(".tar") => Some(Self::Shard),
            () if ends(".parquet") => Some(Self::Table),
            () if is_cloud_name(name) => Some(Self::Cloud),
            () => None,
        }
    }
}

/// What lies below a folder.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Path relative to the folder with `/`, and path to open.
    pub images: Vec<(String, PathBuf)>,
    /// Tar archives, likewise.
    pub shards: Vec<(String, PathBuf)>,
    /// Parquet files, likewise.
    pub tables: Vec<(String, PathBuf)>,
    /// Point clouds and meshes, likewise.
    pub clouds: Vec<(String, PathBuf)>,
    /// The folders that were searched, relative to the root with `/` at the end, as they were before it.
    pub folders: Vec<(String, Metadata)>,
    /// Whether a name is not Unicode, so that its text does not lead to the file.
    pub odd_names: bool,
}

impl Files {
    pub fn push(&mut self, kind: Kind, name: String, path: PathBuf) {
        let list = match kind {
            Kind::Image => &mut self.images,
            Kind::Shard => &mut self.shards,
            Kind::Table => &mut self.tables,
            Kind::Cloud => &mut self.clouds,
        };
        list.push((name, path));
    }
}

/// Every image, shard and table below `root`.
///
/// A link to a file counts as that file. A link to a folder elsewhere is followed. A link to a folder above it, to one
/// that is searched anyway, or to one that another link beside it leads to, is passed over, so that no image counts
/// twice and no search runs in a circle. A folder that may not be read is passed over with a warning.
pub(crate) fn search(root: &Path) -> Result<Files, DataError> {
    let real = root.canonicalize().map_err(DataError::io("look at", root))?;
    let mut walk = Walk { real: real.clone(), found: Files::default() };
    walk.folder(root, "", &mut vec![real])?;
    Ok(walk.found)
}

struct Walk {
    /// The root, without links.
    real: PathBuf,
    found: Files,
}

impl Walk {
    /// Collects what lies below `dir`. `above` are the folders that links led to on the way here, without links.
    fn folder(&mut self, dir: &Path, below: &str, above: &mut Vec<PathBuf>) -> Result<(), DataError> {
        if below.matches('/').count() > DEEPEST {
            return Err(DataError::format(dir, format!("lies in more than {DEEPEST} folders inside each other")));
        }
        let before = fs::metadata(dir).map_err(DataError::io("look at", dir))?;
        self.found.folders.push((below.to_owned(), before));
        let entries = match fs::read_dir(dir) {
            Err(e) if passable(&e, below) => {
                tracing::warn!("{}: {e}: the folder is passed over", dir.display());
                return Ok(());
            }
            entries => entries.map_err(DataError::io("read the folder", dir))?,
        };
        let mut links = Vec::new();
        for entry in entries {
            let entry = entry.map_err(DataError::io("read the folder", dir))?;
            let file_name = entry.file_name();
            let name = file_name.to_string_lossy();
            if is_hidden(&name) {
                continue;
            }
            let (name, path) = (format!("{below}{name}"), entry.path());
            // `file_type` comes with the entry; only a link needs a system call to see what it points to.
            let kind = entry.file_type().map_err(DataError::io("look at", &path))?;
            if kind.is_dir() {
                self.found.odd_names |= file_name.to_str().is_none();
                self.folder(&path, &format!("{name}/"), above)?;
            } else if kind.is_symlink() && fs::metadata(&path).is_ok_and(|target| target.is_dir()) {
                links.push(entry);
            } else if let Some(kind) = Kind::of(&name) {
                self.found.odd_names |= file_name.to_str().is_none();
                self.found.push(kind, name, path);
            }
        }
        self.links(links, below, above)
    }

    /// Follows the links to folders in one folder.
    fn links(&mut self, links: Vec<DirEntry>, below: &str, above: &mut Vec<PathBuf>) -> Result<(), DataError> {
        let mut targets = Vec::new();
        for link in links {
            let path = link.path();
            let target = path.canonicalize().map_err(DataError::io("look at", &path))?;
            targets.push((target, path, link.file_name().to_string_lossy().into_owned()));
        }
        // Of several links to one folder, that of its name comes first.
        targets.sort_by_cached_key(|(target, _, name)| {
            (target.clone(), target.file_name().is_none_or(|own| own.to_string_lossy() != *name), name.clone())
        });
        let mut before: Option<(PathBuf, String)> = None;
        for (target, path, name) in targets {
            let why = if above.iter().any(|folder| folder.starts_with(&target)) {
                Some("which holds it".to_owned())
            } else if self.is_searched(&target) {
                Some("whose images are in the set already".to_owned())
            } else {
                // train/ and val/ may be one folder, if someone says so
                let twin = before.as_ref().filter(|(other, _)| *other == target && split_of(&name).is_none());
                twin.map(|(_, other)| format!("as is {other}"))
            };
            if let Some(why) = why {
                tracing::warn!("{}: a link to {}, {why}: passed over", path.display(), target.display());
                continue;
            }
            above.push(target.clone());
            let followed = self.folder(&path, &format!("{below}{name}/"), above);
            above.pop();
            followed?;
            self.found.odd_names |= path.to_str().is_none();
            before = Some((target, name));
        }
        Ok(())
    }

    /// Whether the search from the root comes to `target` without links.
    fn is_searched(&self, target: &Path) -> bool {
        let parts = target.strip_prefix(&self.real).into_iter().flatten();
        target.starts_with(&self.real) && !parts.map(|part| part.to_string_lossy()).any(|part| is_hidden(&part))
    }
}

/// Whether a file or folder is hidden, or made by an archiver of macOS.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name == "__MACOSX"
}

/// Whether the search goes on without a folder below the root: one that belongs to another user, such as the
/// `lost+found` of a disk.
fn passable(error: &std::io::Error, below: &str) -> bool {
    error.kind() == ErrorKind::PermissionDenied && !below.is_empty()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::data::dataset::Dataset;
    use crate::data::split::Split;
    use crate::data::testing::{png, put};
    use std::os::unix::fs::symlink;

    /// A folder with classes a and b of 8 images each, and another one beside it with class c of 2.
    fn classes() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("set");
        for i in 0..8 {
            put(&root.join(format!("a/{i}.png")), &png(2, 2, [1; 3]));
            put(&root.join(format!("b/{i}.png")), &png(2, 2, [2; 3]));
        }
        (0..2).for_each(|i| put(&dir.path().join(format!("pool/c/{i}.png")), &png(2, 2, [3; 3])));
        (dir, root)
    }

    fn open(root: &Path) -> (usize, Vec<String>) {
        let set = Dataset::open(root.to_str().unwrap(), Split::Train).unwrap();
        (set.len(), set.classes().to_vec())
    }

    #[test]
    fn links_to_folders_that_are_searched_anyway_add_nothing() {
        let cases: &[&[(&str, &str)]] = &[
            &[("a/self", "."), ("b/self", ".")],
            &[("a/cur", "."), ("a/prev", "."), ("b/up", "..")],
            &[("latest", "b")],
            &[("latest", "a"), ("current", "latest"), ("b/other", "../a")],
            &[("all", "."), ("a/deep/x", "../.."), ("up", "../..")],
            &[("a/out", "../../pool/back"), ("../pool/back", "../set")],
            &[("loop", "loop"), ("gone", "nowhere"), ("x", "y"), ("y", "x")],
        ];
        for links in cases {
            let (_dir, root) = classes();
            for (link, target) in *links {
                fs::create_dir_all(root.join(link).parent().unwrap()).unwrap();
                symlink(target, root.join(link)).unwrap();
            }
            assert_eq!(open(&root), (16, vec!["a".to_owned(), "b".into()]), "{links:?}");
        }
    }

    #[test]
    fn links_that_lead_elsewhere_are_followed_once() {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        for (links, expected) in [
            (&[("c", "../pool/c")][..], (18, names(&["a", "b", "c"]))),
            // of several links to one folder, that of its name counts
            (&[("c", "../pool/c"), ("aa", "../pool/c"), ("latest", "c")], (18, names(&["a", "b", "c"]))),
            (&[(".store/x/1.png", "../../a/1.png"), ("d", ".store/x")], (17, names(&["a", "b", "d"]))),
            (
                &[("a/8.png", "../b/1.png"), ("b/8.png", "8.png"), ("b/9.png", "../../pool/c/0.png")],
                (19, names(&["a", "b"])),
            ),
        ] {
            let (_dir, root) = classes();
            for (link, target) in links {
                fs::create_dir_all(root.join(link).parent().unwrap()).unwrap();
                symlink(target, root.join(link)).unwrap();
            }
            assert_eq!(open(&root), expected, "{links:?}");
        }
        // one folder for both splits
        let (dir, _) = classes();
        let both = dir.path().join("both");
        fs::create_dir(&both).unwrap();
        symlink("../set", both.join("train")).unwrap();
        symlink("../set", both.join("val")).unwrap();
        let set = Dataset::open(both.to_str().unwrap(), Split::Train).unwrap();
        assert_eq!((set.len(), set.test_split().unwrap().len()), (16, 16));
    }

    #[test]
    fn folders_may_be_deep_and_the_root_may_be_a_link() {
        let (dir, root) = classes();
        let deep = (0..60).fold(root.join("a"), |path, i| path.join(format!("{i}")));
        put(&deep.join("x.jfif"), &png(2, 2, [1; 3]));
        symlink(&root, dir.path().join("link")).unwrap();
        assert_eq!(open(&dir.path().join("link")), (17, vec!["a".to_owned(), "b".into()]));
    }

    #[test]
    fn only_folders_below_the_root_that_may_not_be_read_are_passed_over() {
        let denied = std::io::Error::from(ErrorKind::PermissionDenied);
        assert!(passable(&denied, "lost+found/") && !passable(&denied, ""));
        assert!(!passable(&std::io::Error::from(ErrorKind::NotFound), "lost+found/"));
    }
}

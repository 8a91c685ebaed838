//! The files of a set by their paths, on a disk or in an archive that is read in place. A file of an archive has the
//! path of the archive in front of its own: `coco.zip/annotations/instances_val2017.json`.

use super::contents::Contents;
use super::decode::is_image_name;
use super::links::{self, normal};
use super::packed::{Packed, unpacked};
use crate::error::DataError;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where files are looked for.
#[derive(Clone)]
pub(super) struct Tree(Option<Arc<Archive>>);

/// An open archive.
struct Archive {
    path: PathBuf,
    file: Arc<File>,
    /// What lies where, by paths from the root of the archive.
    files: BTreeMap<String, Packed>,
}

impl Tree {
    /// The disk.
    pub fn disk() -> Self {
        Self(None)
    }

    /// An archive. Links count as what they lead to; those that lead nowhere do not.
    pub fn archive(contents: &Contents) -> Self {
        let files = links::files(&contents.nodes);
        let files = files.into_iter().map(|(name, i)| (name, contents.places[i].clone())).collect();
        Self(Some(Arc::new(Archive { path: contents.path.clone(), file: contents.file.clone(), files })))
    }

    /// The folder of an archive that holds all of its files: below the one that it was made from.
    pub fn root(&self) -> PathBuf {
        let Some(archive) = &self.0 else { return PathBuf::new() };
        let mut root = archive.path.clone();
        loop {
            match &self.list(&root)[..] {
                [only] if self.is_dir(only) => root.clone_from(only),
                _ => return root,
            }
        }
    }

    /// The path of a file from the root of an archive.
    fn inside(archive: &Archive, path: &Path) -> Option<String> {
        let below = path.strip_prefix(&archive.path).ok()?;
        Some(normal(&below.to_string_lossy().replace('\\', "/")))
    }

    pub fn is_file(&self, path: &Path) -> bool {
        let Some(archive) = &self.0 else { return path.is_file() };
        Self::inside(archive, path).is_some_and(|name| archive.files.contains_key(&name))
    }

    pub fn is_dir(&self, path: &Path) -> bool {
        match &self.0 {
            None => path.is_dir(),
            Some(_) => !self.list(path).is_empty(),
        }
    }

    /// What lies in a folder, sorted; nothing where there is none.
    pub fn list(&self, dir: &Path) -> Vec<PathBuf> {
        let Some(archive) = &self.0 else {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            let mut all: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            all.sort();
            return all;
        };
        let mut all: Vec<PathBuf> =
            below(archive, dir).map(|name| dir.join(name.split('/').next().unwrap_or(name))).collect();
        all.dedup(); // names of a folder are sorted together
        all
    }

    /// What lies in a folder, in no order, each with whether it is a folder. On a disk that comes with the names, so
    /// that no file is looked at; links are, but for those with the name of an image.
    pub fn entries(&self, dir: &Path) -> Box<dyn Iterator<Item = (PathBuf, bool)> + '_> {
        if self.0.is_some() {
            return Box::new(self.list(dir).into_iter().map(|path| {
                let is_dir = self.is_dir(&path);
                (path, is_dir)
            }));
        }
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        Box::new(entries.map(|entry| {
            let path = entry.path();
            let is_dir = match entry.file_type() {
                Ok(kind) if kind.is_symlink() => !is_image_name(&entry.file_name().to_string_lossy()) && path.is_dir(),
                kind => kind.is_ok_and(|kind| kind.is_dir()),
            };
            (path, is_dir)
        }))
    }

    /// The images below a folder of an archive, with their paths from there.
    pub fn images(&self, dir: &Path) -> Vec<(String, PathBuf)> {
        let Some(archive) = &self.0 else { return Vec::new() };
        below(archive, dir).filter(|name| is_image_name(name)).map(|name| (name.to_owned(), dir.join(name))).collect()
    }

    /// The bytes of a file.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, DataError> {
        let Some(archive) = &self.0 else { return fs::read(path).map_err(DataError::io("read", path)) };
        let packed = Self::inside(archive, path).and_then(|name| archive.files.get(&name));
        let missing = || DataError::io("read", path)(std::io::ErrorKind::NotFound.into());
        unpacked(path, packed.ok_or_else(missing)?, &archive.file)
    }

    /// The text of a file; `None` if there is none.
    pub fn text(&self, path: &Path) -> Result<Option<String>, DataError> {
        if !self.is_file(path) {
            return Ok(None);
        }
        let text = String::from_utf8(self.read(path)?);
        text.map(Some).map_err(|e| DataError::format(path, format!("is no text in UTF-8: {}", e.utf8_error())))
    }
}

/// The files below a folder of an archive, as paths from there, but for hidden ones.
fn below<'a>(archive: &'a Archive, dir: &Path) -> impl Iterator<Item = &'a str> {
    let folder = Tree::inside(archive, dir).map(|name| if name.is_empty() { name } else { name + "/" });
    let from = folder.clone().unwrap_or_default();
    let all = archive.files.range(from..).map(|(name, _)| name.as_str());
    let names = all.map_while(move |name| name.strip_prefix(folder.as_deref()?));
    names.filter(|name| !links::is_hidden(name))
}

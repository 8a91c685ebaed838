//! Where a data set like COCO has its files of annotations, and each of them its images.

use super::listing::split_of;
use super::tree::Tree;
use crate::data::coco::CocoFile;
use crate::data::split::Split;
use crate::error::DataError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Annotations in a folder have one of these names or begin with `instances`, or lie in a folder `annotations`.
const NAMES: [&str; 3] = ["_annotations.coco.json", "annotations.json", "coco.json"];
/// Folders beside each other, and entries of a folder, that are searched for annotations. More of them are classes and
/// images: listing a million of those takes minutes on a disk of a network.
pub(super) const FEW: usize = 100;
/// What COCO has beside instances: other tasks.
const OTHERS: [&str; 6] = ["captions", "person_keypoints", "stuff", "panoptic", "image_info", "lvis_"];
/// Images of a file that are looked for to find their folder.
const PROBED: usize = 50;
/// The split that a file belongs to by its name, or by that of its folder: `instances_val2017.json`,
/// `valid/_annotations.coco.json`.
fn split_named(path: &Path) -> Option<Split> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let words = stem.split(['_', '-', '.', ' ']).chain([&*folder]);
    let mut known = words.filter_map(|word| split_of(word.trim_end_matches(|c: char| c.is_ascii_digit())));
    known.next().map(|(split, _)| split)
}

/// Files of annotations by their split, of several the first in the order of names; what names none is to train on.
fn by_split(mut found: Vec<PathBuf>) -> BTreeMap<&'static str, PathBuf> {
    found.sort();
    let mut files = BTreeMap::new();
    for path in found {
        let split = split_named(&path).unwrap_or(Split::Train);
        files.entry(split.name()).or_insert(path);
    }
    files
}

/// The files of annotations in a folder, and in the folders there.
///
/// A folder `annotations` is searched whole, whatever its case and end. Others are where they and their entries are
/// few; beside more entries than that, only the names that tools write there are looked up.
pub(super) fn in_folder(tree: &Tree, root: &Path) -> BTreeMap<&'static str, PathBuf> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let lower = |path: &Path| name(path).to_ascii_lowercase();
    let is_of_annotations = |dir: &Path| dir != root && lower(dir).starts_with("annotation");
    let fits = |path: &Path| {
        let (name, dir) = (lower(path), path.parent().unwrap_or(root));
        let known = NAMES.contains(&&*name) || name.starts_with("instances");
        name.ends_with(".json") && (is_of_annotations(dir) || known) && !OTHERS.iter().any(|o| name.starts_with(o))
    };
    let file = |(path, is_dir): (PathBuf, bool)| (!is_dir && fits(&path)).then_some(path);
    let (mut found, mut folders, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (path, is_dir) in tree.entries(root) {
        match is_dir {
            true if is_of_annotations(&path) => folders.push(path),
            true if others.len() <= FEW => others.push(path),
            true => {}
            false => found.extend(file((path, false))),
        }
    }
    found.extend(folders.iter().flat_map(|dir| tree.entries(dir)).filter_map(file));
    if others.len() > FEW {
        others.clear();
    }
    for dir in others {
        let entries: Vec<(PathBuf, bool)> = tree.entries(&dir).take(FEW + 1).collect();
        if entries.len() <= FEW {
            found.extend(entries.into_iter().filter_map(file));
        } else {
            let own = format!("instances_{}.json", name(&dir));
            let written = NAMES.into_iter().chain(["instances.json", &own]);
            found.extend(written.map(|name| dir.join(name)).filter(|path| tree.is_file(path)));
        }
    }
    if found.iter().any(|path| lower(path).starts_with("instances")) {
        found.retain(|path| lower(path).starts_with("instances"));
    }
    by_split(found)
}

/// A file of annotations, and the one beside it that has its name but for the split.
pub(super) fn beside(path: &Path) -> BTreeMap<&'static str, PathBuf> {
    let split = split_named(path).unwrap_or(Split::Train);
    let mut files = BTreeMap::from([(split.name(), path.to_owned())]);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if split == Split::Train {
        let other = ["val", "valid", "validation", "test"]
            .iter()
            .map(|other| path.with_file_name(name.replace("train", other)));
        if let Some(test) = other.into_iter().find(|other| other != path && other.is_file()) {
            files.insert(Split::Test.name(), test);
        }
    }
    files
}

/// The folder of the images: the first, of those where they may lie, in which one is found.
pub(super) fn folder_of(tree: &Tree, json: &Path, root: &Path, file: &CocoFile) -> Result<PathBuf, DataError> {
    let own = json.parent().unwrap_or(Path::new(""));
    let set = if tree.is_dir(root) { root } else { own };
    let above = own.parent().unwrap_or(own);
    let stem = json.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let suffix = stem.rsplit('_').next().unwrap_or_default().to_owned();
    let split = suffix.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    let mut folders = Vec::new();
    for base in [set, own, above] {
        for below in ["", "images"] {
            for part in [&*suffix, &*split, &*stem, ""] {
                folders.push(base.join(below).join(part));
            }
        }
    }
    let holds =
        |folder: &&PathBuf| file.images.iter().take(PROBED).any(|image| tree.is_file(&folder.join(&image.file_name)));
    if let Some(found) = folders.iter().find(holds) {
        return Ok(found.clone());
    }
    let message = format!(
        "none of its images is found, such as {}: expected below {}, its `images` or the folder of the split",
        file.images[0].file_name,
        set.display()
    );
    Err(DataError::format(json, message))
}

//! From a list of paths to the samples of a split: torchvision's `ImageFolder`, for folders and archives alike.
use crate::data::imagenet::wnid_of_file;
use crate::data::split::Split;
use crate::error::DataError;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const TRAIN: [&str; 2] = ["train", "training"];
/// Names of the test split, the preferred one first. Where a set has `val/` and `test/`, its `test/` often has no
/// labels.
const EVAL: [&str; 5] = ["val", "valid", "validation", "test", "testing"];

/// The samples of a split, in order.
#[derive(Debug, PartialEq)]
pub(crate) struct Listing {
    /// For each sample, its position in the list of paths that was given. Sorted by path.
    pub order: Vec<usize>,
    /// For each sample, its label; empty if there are no classes.
    pub labels: Vec<u32>,
    /// Class names, sorted; a label is a position in them.
    pub classes: Vec<String>,
}

/// Finds the samples of a split among the images `paths`, which are relative to `root` with `/` between components.
///
/// - A folder that holds everything else is ignored: `imagenette/train/…` counts as `train/…`.
/// - `train/` together with `val/` or `test/` are the two splits. One of these folders alone is one split, and the
///   other is missing. Without such folders all images are [`Split::Train`]. A class may be called "train" as long as
///   none is called "val" or "test".
/// - The first folder below the split is the class. Where there are no folders, the class is the WordNet id at the
///   start of the file names, if all names have one.
/// - Class numbers count the classes of both splits, so that a class has the same number in both.
/// - With fewer than two classes, or with images beside the class folders, there are no labels.
pub(crate) fn arrange(root: &Path, paths: &[String], split: Split) -> Result<Listing, DataError> {
    let mut parts: Vec<(Vec<&str>, usize)> = paths
        .iter()
        .enumerate()
        .map(|(i, path)| (path.split('/').filter(|c| !c.is_empty() && *c != ".").collect(), i))
        .filter(|(components, _): &(Vec<&str>, usize)| !components.is_empty())
        .collect();
    if parts.is_empty() {
        return Err(DataError::Empty { path: root.to_owned(), layouts: String::new() });
    }
    parts.sort_unstable();
    while let Some(folder) = wrapper(&parts) {
        tracing::debug!("{}: everything lies in {folder}/", root.display());
        for (components, _) in &mut parts {
            components.remove(0);
        }
    }
    let Some((train, eval)) = split_folders(&parts) else {
        return match split {
            Split::Train => Ok(classify(root, &parts.iter().collect::<Vec<_>>(), &parts)),
            Split::Test => Err(no_split(root, split, "there is no val/ or test/ folder in it".into())),
        };
    };
    let wanted = match split {
        Split::Train => train,
        Split::Test => eval,
    };
    let Some(wanted) = wanted else {
        let found = [train, eval].into_iter().flatten().map(|f| format!("{f}/")).collect::<Vec<_>>().join(" and ");
        return Err(no_split(root, split, format!("found only {found}")));
    };
    let below = |folder: Option<&str>| -> Vec<(Vec<&str>, usize)> {
        let inside = parts.iter().filter(|(c, _)| c.len() > 1 && Some(c[0]) == folder);
        inside.map(|(c, i)| (c[1..].to_vec(), *i)).collect()
    };
    let both: Vec<_> = below(train).into_iter().chain(below(eval)).collect();
    let chosen = below(Some(wanted));
    Ok(classify(root, &chosen.iter().collect::<Vec<_>>(), &both))
}

fn no_split(root: &Path, split: Split, found: String) -> DataError {
    DataError::NoSplit { path: root.to_owned(), split: split.name(), found }
}

/// The folder that holds everything, if there are folders below it.
fn wrapper<'a>(parts: &[(Vec<&'a str>, usize)]) -> Option<&'a str> {
    let top = parts.first()?.0[0];
    let is_split = TRAIN.iter().chain(&EVAL).any(|s| top.eq_ignore_ascii_case(s));
    (!is_split && parts.iter().all(|(c, _)| c[0] == top && c.len() >= 3)).then_some(top)
}

/// The folders of the train and test splits, of which one may be missing; `None` if the top level has no splits.
fn split_folders<'a>(parts: &[(Vec<&'a str>, usize)]) -> Option<(Option<&'a str>, Option<&'a str>)> {
    let tops: BTreeSet<&str> = parts.iter().filter(|(c, _)| c.len() > 1).map(|(c, _)| c[0]).collect();
    let find = |names: &[&str]| names.iter().find_map(|n| tops.iter().find(|t| t.eq_ignore_ascii_case(n)).copied());
    let (train, eval) = (find(&TRAIN), find(&EVAL));
    let all_named = tops.iter().all(|t| TRAIN.iter().chain(&EVAL).any(|n| t.eq_ignore_ascii_case(n)));
    let only = !tops.is_empty() && all_named && parts.iter().all(|(c, _)| c.len() > 1);
    ((train.is_some() && eval.is_some()) || only).then_some((train, eval))
}

/// The listing of `chosen`, with class numbers that count the classes of `all`.
fn classify(root: &Path, chosen: &[&(Vec<&str>, usize)], all: &[(Vec<&str>, usize)]) -> Listing {
    let order = chosen.iter().map(|(_, i)| *i).collect();
    let loose = chosen.iter().filter(|(c, _)| c.len() == 1).count();
    let names: BTreeSet<&str> = all.iter().filter_map(|(c, _)| class(c)).collect();
    let number: BTreeMap<&str, u32> = names.iter().enumerate().map(|(i, n)| (*n, i as u32)).collect();
    let labels: Option<Vec<u32>> = chosen.iter().map(|(c, _)| number.get(class(c)?).copied()).collect();
    let mixed = loose > 0 && loose < chosen.len();
    if mixed {
        tracing::warn!("{}: {loose} images lie beside the folders, so no folder counts as a class", root.display());
    }
    match labels {
        Some(labels) if names.len() > 1 && !mixed => {
            Listing { order, labels, classes: names.into_iter().map(str::to_owned).collect() }
        }
        _ => Listing { order, labels: Vec::new(), classes: Vec::new() },
    }
}

/// The class that the path of an image names: its first folder, or the WordNet id in its name.
fn class<'a>(components: &[&'a str]) -> Option<&'a str> {
    match components {
        [file] => wnid_of_file(file),
        [folder, ..] => Some(folder),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(paths: &[&str], split: Split) -> Result<Listing, DataError> {
        arrange(Path::new("set"), &paths.iter().map(|p| p.to_string()).collect::<Vec<_>>(), split)
    }

    #[test]
    fn class_folders_are_sorted_and_all_train() {
        let got = list(&["dog/2.jpg", "cat/9.jpg", "dog/1.jpg"], Split::Train).unwrap();
        assert_eq!(got.order, [1, 2, 0]);
        assert_eq!(got.labels, [0, 1, 1]);
        assert_eq!(got.classes, ["cat", "dog"]);
        let error = list(&["dog/2.jpg", "cat/9.jpg"], Split::Test).unwrap_err().to_string();
        assert!(error.contains("no test split") && error.contains("set"), "{error}");
    }

    #[test]
    fn splits_share_class_numbers() {
        let paths =
            ["pack/train/b/1.jpg", "pack/train/a/1.jpg", "pack/val/b/1.jpg", "pack/val/c/1.jpg", "pack/test/1.jpg"];
        let train = list(&paths, Split::Train).unwrap();
        assert_eq!((train.order, train.labels), (vec![1, 0], vec![0, 1]));
        let test = list(&paths, Split::Test).unwrap();
        assert_eq!((test.order, test.labels), (vec![2, 3], vec![1, 2]));
        assert_eq!(test.classes, ["a", "b", "c"]);
        assert!(
            list(&["train/a/1.jpg", "train/b/1.jpg"], Split::Test).unwrap_err().to_string().contains("only train/")
        );
        assert_eq!(list(&["test/a/1.jpg", "test/b/1.jpg"], Split::Test).unwrap().order.len(), 2);
    }

    #[test]
    fn a_class_may_be_called_train() {
        let got = list(&["apple/1.jpg", "train/1.jpg", "wolf/1.jpg"], Split::Train).unwrap();
        assert_eq!(got.classes, ["apple", "train", "wolf"]);
    }

    #[test]
    fn flat_folders_have_no_labels() {
        for paths in [&["./b.jpg", "./a.jpg"][..], &["photos/b.jpg", "photos/a.jpg"], &["b.jpg", "a/x.jpg"]] {
            let got = list(paths, Split::Train).unwrap();
            assert_eq!((got.order, got.labels.len()), (vec![1, 0], 0), "{paths:?}");
        }
        assert!(matches!(list(&[], Split::Train), Err(DataError::Empty { .. })));
    }

    #[test]
    fn flat_files_named_like_those_of_imagenet_have_labels() {
        let paths = ["./n01443537_2.jpg", "./n01440764_tench.jpg", "./n01443537_1.jpg"];
        let got = list(&paths, Split::Train).unwrap();
        assert_eq!((got.order, got.labels), (vec![1, 2, 0], vec![0, 1, 1]));
        assert_eq!(got.classes, ["n01440764", "n01443537"]);
        assert!(list(&[paths[0], paths[1], "readme.png"], Split::Train).unwrap().labels.is_empty());
        assert!(list(&["a/1.jpg", "b/1.jpg", "n01440764_1.jpg"], Split::Train).unwrap().labels.is_empty());
    }
}

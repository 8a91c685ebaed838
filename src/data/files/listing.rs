//! From a list of paths to the samples of a split: torchvision's `ImageFolder`, for folders and archives alike.
use super::numbering::Numbering;
use crate::data::imagenet::wnid_of_file;
use crate::data::split::Split;
use crate::error::DataError;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Names of the training split.
const TRAIN: [&str; 2] = ["train", "training"];
/// Names of the test split, the preferred one first. Where a set has `val/` and `test/`, its `test/` often has no
/// labels.
const EVAL: [&str; 7] = ["val", "valid", "validation", "test", "testing", "eval", "evaluation"];

/// The samples of a split, in order.
#[derive(Debug, PartialEq)]
pub(crate) struct Listing {
    /// For each sample, its position in the list of paths that was given. Sorted by path.
    pub order: Vec<usize>,
    /// Their labels in this order; class names are sorted.
    pub numbering: Numbering,
}

/// The split that a folder of this name holds, and how much it is preferred to others: 0 is the most. `train`,
/// `training_set`, `Test-Set` and `ILSVRC2012_img_val` are such names.
pub(crate) fn split_of(folder: &str) -> Option<(Split, usize)> {
    let name = folder.to_ascii_lowercase().replace(['-', ' '], "_");
    let name = name.strip_prefix("ilsvrc2012_img_").unwrap_or(&name);
    let ends = ["_set", "set", "_images", "_data", "_split"];
    let name = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let at = |names: &[&str]| names.iter().position(|n| *n == name);
    at(&TRAIN).map(|rank| (Split::Train, rank)).or_else(|| at(&EVAL).map(|rank| (Split::Test, rank)))
}

type Parts<'a> = Vec<(Vec<&'a str>, usize)>;

/// Finds the samples of a split among the images `paths`, which are relative to `root` with `/` between components.
///
/// - A folder that holds everything else is ignored: `imagenette/train/…` counts as `train/…`.
/// - `train/` together with `val/` or `test/` are the two splits; [`split_of`] knows more names. One of these folders
///   alone is one split, and the other is missing. Without such folders all images are [`Split::Train`]. A class may be
///   called "train" as long as none is called "val" or "test".
/// - The first folder below the split is the class. Where there are no folders, the class is the WordNet id in the file
///   names, if all names have one.
/// - Class numbers count the classes of both splits, so that a class has the same number in both.
/// - With images beside the class folders there are no labels.
pub(crate) fn arrange(root: &Path, paths: &[&str], split: Split) -> Result<Listing, DataError> {
    let mut parts: Parts = paths
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
            Split::Train => Ok(classify(root, "the set", &parts, &parts)),
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
    let chosen = below(&parts, wanted);
    let mut both = chosen.clone();
    both.extend([train, eval].into_iter().flatten().filter(|f| *f != wanted).flat_map(|folder| below(&parts, folder)));
    Ok(classify(root, &format!("{wanted}/"), &chosen, &both))
}

fn no_split(root: &Path, split: Split, found: String) -> DataError {
    DataError::NoSplit { path: root.to_owned(), split: split.name(), found }
}

/// The images below the folder of a split, relative to it. Some archives hold `training_set/training_set/…`.
fn below<'a>(parts: &Parts<'a>, folder: &str) -> Parts<'a> {
    let inside = parts.iter().filter(|(c, _)| c.len() > 1 && c[0] == folder);
    let mut inside: Parts = inside.map(|(c, i)| (c[1..].to_vec(), *i)).collect();
    while inside.iter().all(|(c, _)| c.len() > 2 && c[0] == folder) && !inside.is_empty() {
        for (components, _) in &mut inside {
            components.remove(0);
        }
    }
    inside
}

/// The folder that holds everything, if there are folders below it.
fn wrapper<'a>(parts: &Parts<'a>) -> Option<&'a str> {
    let top = parts.first()?.0[0];
    (split_of(top).is_none() && parts.iter().all(|(c, _)| c[0] == top && c.len() >= 3)).then_some(top)
}

/// The folders of the train and test splits, of which one may be missing; `None` if the top level has no splits.
fn split_folders<'a>(parts: &Parts<'a>) -> Option<(Option<&'a str>, Option<&'a str>)> {
    let tops: BTreeSet<&str> = parts.iter().filter(|(c, _)| c.len() > 1).map(|(c, _)| c[0]).collect();
    let find = |split| {
        let of = |top: &&'a str| split_of(top).filter(|(other, _)| *other == split).map(|(_, rank)| (rank, *top));
        tops.iter().filter_map(of).min().map(|(_, top)| top)
    };
    let (train, eval) = (find(Split::Train), find(Split::Test));
    let all_named = tops.iter().all(|top| split_of(top).is_some());
    let only = !tops.is_empty() && all_named && parts.iter().all(|(c, _)| c.len() > 1);
    ((train.is_some() && eval.is_some()) || only).then_some((train, eval))
}

/// The listing of `chosen`, which lie in `place`, with class numbers that count the classes of `all`.
fn classify(root: &Path, place: &str, chosen: &Parts, all: &Parts) -> Listing {
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
        Some(labels) if !mixed => {
            let classes = names.into_iter().map(str::to_owned).collect();
            Listing { order, numbering: Numbering { labels, classes, unlabeled: None } }
        }
        _ => {
            let unlabeled = match mixed {
                true => format!("{loose} of its {} images lie in {place} beside the folders of classes", chosen.len()),
                false => {
                    let nameless = chosen.iter().find(|(c, _)| class(c).is_none()).map_or("", |(c, _)| c[0]);
                    format!("its {loose} images lie in {place} itself, and {nameless} names no class")
                }
            };
            Listing { order, numbering: Numbering::none(unlabeled) }
        }
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
        arrange(Path::new("set"), paths, split)
    }

    #[test]
    fn class_folders_are_sorted_and_all_train() {
        let got = list(&["dog/2.jpg", "cat/9.jpg", "dog/1.jpg"], Split::Train).unwrap();
        assert_eq!(got.order, [1, 2, 0]);
        assert_eq!(got.numbering.labels, [0, 1, 1]);
        assert_eq!(got.numbering.classes, ["cat", "dog"]);
        let error = list(&["dog/2.jpg", "cat/9.jpg"], Split::Test).unwrap_err().to_string();
        assert!(error.contains("no test split") && error.contains("set"), "{error}");
    }

    #[test]
    fn splits_share_class_numbers() {
        let paths =
            ["pack/train/b/1.jpg", "pack/train/a/1.jpg", "pack/val/b/1.jpg", "pack/val/c/1.jpg", "pack/test/1.jpg"];
        let train = list(&paths, Split::Train).unwrap();
        assert_eq!((train.order, train.numbering.labels), (vec![1, 0], vec![0, 1]));
        let test = list(&paths, Split::Test).unwrap();
        assert_eq!((test.order, test.numbering.labels), (vec![2, 3], vec![1, 2]));
        assert_eq!(test.numbering.classes, ["a", "b", "c"]);
        assert!(
            list(&["train/a/1.jpg", "train/b/1.jpg"], Split::Test).unwrap_err().to_string().contains("only train/")
        );
        assert_eq!(list(&["test/a/1.jpg", "test/b/1.jpg"], Split::Test).unwrap().order.len(), 2);
    }

    #[test]
    fn a_class_may_be_called_train() {
        let got = list(&["apple/1.jpg", "train/1.jpg", "wolf/1.jpg"], Split::Train).unwrap();
        assert_eq!(got.numbering.classes, ["apple", "train", "wolf"]);
    }

    #[test]
    fn flat_folders_have_no_labels() {
        for (paths, why) in [
            (&["./b.jpg", "./a.jpg"][..], "its 2 images lie in the set itself, and a.jpg names no class"),
            (&["b.jpg", "a/x.jpg"], "1 of its 2 images lie in the set beside the folders of classes"),
        ] {
            let got = list(paths, Split::Train).unwrap();
            assert_eq!((got.order, got.numbering.labels.len()), (vec![1, 0], 0), "{paths:?}");
            assert_eq!(got.numbering.unlabeled.as_deref(), Some(why));
        }
        assert!(matches!(list(&[], Split::Train), Err(DataError::Empty { .. })));
    }

    #[test]
    fn flat_files_named_like_those_of_imagenet_have_labels() {
        let paths = ["./n01443537_2.jpg", "./n01440764_tench.jpg", "./n01443537_1.jpg"];
        let got = list(&paths, Split::Train).unwrap();
        assert_eq!((got.order, got.numbering.labels), (vec![1, 2, 0], vec![0, 1, 1]));
        assert_eq!(got.numbering.classes, ["n01440764", "n01443537"]);
        assert!(list(&[paths[0], paths[1], "readme.png"], Split::Train).unwrap().numbering.labels.is_empty());
        assert!(list(&["a/1.jpg", "b/1.jpg", "n01440764_1.jpg"], Split::Train).unwrap().numbering.labels.is_empty());
    }

    #[test]
    fn one_class_is_a_label() {
        for (paths, split) in [
            (&["val/a/1.jpg", "val/a/2.jpg"][..], Split::Test),
            (&["train/a/1.jpg", "test/a/2.jpg"], Split::Train),
            (&["set/val/a/deep/1.jpg"], Split::Test),
            (&["a/1.jpg", "a/2.jpg"], Split::Train),
            (&["n01440764_1.jpg"], Split::Train),
        ] {
            let got = list(paths, split).unwrap();
            assert_eq!((got.numbering.classes.len(), got.numbering.unlabeled), (1, None), "{paths:?}");
            assert!(
                got.numbering.labels.iter().all(|&label| label == 0) && got.numbering.labels.len() == got.order.len()
            );
        }
    }

    #[test]
    fn a_flat_split_has_no_labels_unless_its_names_tell() {
        let train = ["train/n01440764/a.JPEG", "train/n01443537/b.JPEG"];
        let with = |eval: &[&str], split| list(&[&train[..], eval].concat(), split).unwrap();
        let flat = ["val/ILSVRC2012_val_00000001.JPEG", "val/ILSVRC2012_val_00000002.JPEG"];
        assert_eq!(with(&flat, Split::Train).numbering.labels, [0, 1]);
        let test = with(&flat, Split::Test);
        let why = "its 2 images lie in val/ itself, and ILSVRC2012_val_00000001.JPEG names no class";
        assert_eq!((test.numbering.labels.len(), test.numbering.unlabeled.as_deref()), (0, Some(why)));
        let named = ["val/ILSVRC2012_val_00000001_n01443537.JPEG", "val/ILSVRC2012_val_00000002_n01440764.JPEG"];
        assert_eq!(with(&named, Split::Test).numbering.labels, [1, 0]);
        let one = with(&["val/n01443537/ILSVRC2012_val_00000003.JPEG"], Split::Test);
        assert_eq!((one.numbering.labels, one.numbering.classes.len()), (vec![1], 2));
    }

    #[test]
    fn splits_go_by_many_names() {
        for (train, eval) in [
            ("train", "val"),
            ("training_set", "test_set"),
            ("TRAINING", "Testing"),
            ("Training Set", "Validation-Set"),
            ("trainset", "valset"),
            ("ILSVRC2012_img_train", "ILSVRC2012_img_val"),
            ("train_images", "eval"),
        ] {
            for inner in [false, true] {
                let top = |name: &str| if inner { format!("{name}/{name}") } else { name.to_owned() };
                let paths = [format!("{}/a/1.jpg", top(train)), format!("{}/b/2.jpg", top(eval))];
                let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
                let (got, test) = (list(&paths, Split::Train).unwrap(), list(&paths, Split::Test).unwrap());
                assert_eq!(
                    (got.order, got.numbering.labels, test.order, test.numbering.labels),
                    (vec![0], vec![0], vec![1], vec![1])
                );
                assert_eq!(test.numbering.classes, ["a", "b"], "{train} {eval} {inner}");
            }
        }
        for class in ["trains", "contest", "basset", "sunset", "test_tube", "valley"] {
            assert_eq!(split_of(class), None, "{class}");
        }
    }
}

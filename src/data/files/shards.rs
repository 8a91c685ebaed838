//! Sets that lie in several files of one kind: which files a place names, and which of them are of a split.
use super::layout::Place;
use super::listing::split_of;
use super::walk::Kind;
use crate::data::split::Split;
use crate::error::DataError;
use std::path::{Path, PathBuf};

/// Files that a pattern may name at most.
const MOST_NAMES: usize = 1_000_000;

/// The files of `kind`, of one split, that a place names; none if it names no such file.
///
/// - A file is itself.
/// - A pattern as of bash and WebDataset, `train-{000000..000146}.tar`, is all the files it stands for.
/// - A folder without images is all files below it.
///
/// A folder or a word in its name says which split a file is of: `train/0000.parquet`, `imagenet-val-000006.tar`.
/// Without one it is [`Split::Train`]. Beside the training files of a pattern lies the test split.
pub(crate) fn files(place: &Place, kind: Kind, split: Split) -> Result<Option<Vec<PathBuf>>, DataError> {
    let all: Vec<(String, PathBuf)> = if place.is_folder() {
        let below = place.below()?;
        let found = if kind == Kind::Table { &below.tables } else { &below.shards };
        if !below.images.is_empty() || found.is_empty() {
            return Ok(None);
        }
        found.clone()
    } else if place.is_file_named(|name| Kind::of(name) == Some(kind)) {
        vec![(place.file_name(), place.path.to_owned())]
    } else if place.metadata.is_err() && place.spec.contains('{') && Kind::of(place.spec) == Some(kind) {
        pattern(place)?
    } else {
        return Ok(None);
    };
    let (mut train, mut eval): (Vec<PathBuf>, Vec<(usize, PathBuf)>) = Default::default();
    for (name, path) in &all {
        match split_of_file(name) {
            Some((Split::Test, rank)) => eval.push((rank, path.clone())),
            _ => train.push(path.clone()),
        }
    }
    if split == Split::Test && eval.is_empty() && !place.is_folder() {
        eval = test_beside(&all[0].1, kind);
    }
    let best = eval.iter().map(|(rank, _)| *rank).min();
    let mut chosen: Vec<PathBuf> = match split {
        // what was named is wanted, whatever it is called
        Split::Train if train.is_empty() && !place.is_folder() => all.into_iter().map(|(_, path)| path).collect(),
        Split::Train => train,
        Split::Test => eval.into_iter().filter(|(rank, _)| Some(*rank) == best).map(|(_, path)| path).collect(),
    };
    if chosen.is_empty() {
        let found = "no file or folder in it is named after that split".to_owned();
        return Err(DataError::NoSplit { path: place.path.to_owned(), split: split.name(), found });
    }
    chosen.sort();
    Ok(Some(chosen))
}

/// The split that the path of a file names: a folder above it, or a word in its name.
pub(crate) fn split_of_file(path: &str) -> Option<(Split, usize)> {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let words = name.split(|c: char| !c.is_ascii_alphabetic());
    folders.split('/').find_map(split_of).or_else(|| words.into_iter().find_map(split_of))
}

/// The files of the test split in the folder of a training file that have its name up to the split: beside
/// `set-train-000.tar`, `set-val-000.tar`.
fn test_beside(train: &Path, kind: Kind) -> Vec<(usize, PathBuf)> {
    let before_split = |name: &str| {
        let at = name.split_inclusive(|c: char| !c.is_ascii_alphabetic()).scan(0, |start, word| {
            *start += word.len();
            Some((*start - word.len(), word.trim_end_matches(|c: char| !c.is_ascii_alphabetic())))
        });
        at.into_iter().find(|(_, word)| split_of(word).is_some()).map(|(start, _)| name[..start].to_owned())
    };
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(start) = before_split(&name(train)) else { return Vec::new() };
    let folder = train.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let of_test = |path: PathBuf| {
        let name = name(&path);
        let fits = Kind::of(&name) == Some(kind) && before_split(&name).as_ref() == Some(&start);
        split_of_file(&name).filter(|(split, _)| fits && *split == Split::Test).map(|(_, rank)| (rank, path))
    };
    entries.filter_map(of_test).collect()
}

/// The files that a pattern stands for, each of which has to be there.
fn pattern(place: &Place) -> Result<Vec<(String, PathBuf)>, DataError> {
    let bad = |reason: String| DataError::format(place.path, reason);
    let names = expand(place.spec).map_err(bad)?;
    let gone: Vec<&String> = names.iter().filter(|name| !Path::new(name).is_file()).collect();
    if let Some(first) = gone.first() {
        let message =
            format!("{} of the {} files of the pattern are missing, the first is {first}", gone.len(), names.len());
        return Err(bad(message));
    }
    Ok(names.into_iter().map(|name| (name.rsplit('/').next().unwrap_or_default().to_owned(), name.into())).collect())
}

/// What a pattern with braces stands for: `{000..146}` counts, with zeros in front as they are given; `{a,b}` lists.
pub(crate) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let Some(open) = pattern.find('{') else { return Ok(vec![pattern.to_owned()]) };
    let Some(length) = pattern[open..].find('}') else {
        return Err(format!("the brace at character {} is not closed", open + 1));
    };
    let (before, inner, after) = (&pattern[..open], &pattern[open + 1..open + length], &pattern[open + length + 1..]);
    if inner.contains('{') {
        return Err(format!("braces inside braces, {{{inner}: write the files of one after the other"));
    }
    let many = |count: usize| format!("stands for {count} files or more, expected at most {MOST_NAMES}");
    let middle: Vec<String> = match inner.split_once("..") {
        Some((first, last)) => {
            let number =
                |text: &str| text.parse::<u64>().map_err(|_| format!("{{{inner}}} counts to no number: {text}"));
            let (low, high) = (number(first)?, number(last)?);
            if low > high {
                return Err(format!("{{{inner}}} counts down"));
            }
            if high - low >= MOST_NAMES as u64 {
                return Err(many(MOST_NAMES + 1));
            }
            (low..=high).map(|i| format!("{i:0width$}", width = first.len())).collect()
        }
        None => inner.split(',').map(str::to_owned).collect(),
    };
    let rest = expand(after)?;
    if middle.len().saturating_mul(rest.len()) > MOST_NAMES {
        return Err(many(middle.len().saturating_mul(rest.len())));
    }
    Ok(middle.iter().flat_map(|m| rest.iter().map(move |end| format!("{before}{m}{end}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::labels::PixelLabels;
    use crate::data::testing::put;

    #[test]
    fn braces_stand_for_what_bash_makes_of_them() {
        for (pattern, expected) in [
            ("a.tar", &["a.tar"][..]),
            ("a-{000..002}.tar", &["a-000.tar", "a-001.tar", "a-002.tar"]),
            ("a-{8..11}.tar", &["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]),
            ("{x,y}/a-{0..1}.tar", &["x/a-0.tar", "x/a-1.tar", "y/a-0.tar", "y/a-1.tar"]),
        ] {
            assert_eq!(expand(pattern).unwrap(), expected, "{pattern}");
        }
        for (pattern, hint) in [
            ("a-{0..3.tar", "not closed"),
            ("a-{3..0}.tar", "counts down"),
            ("a-{0..x}.tar", "no number: x"),
            ("a-{0..99999999999}.tar", "at most 1000000"),
            ("{0..9999}{0..9999}", "at most 1000000"),
            ("{a,{b,c}}", "braces inside braces"),
        ] {
            let error = expand(pattern).unwrap_err();
            assert!(error.contains(hint), "{pattern}: {error}");
        }
    }

    #[test]
    fn names_tell_the_split() {
        let dir = tempfile::tempdir().unwrap();
        let found = |spec: &str, split| {
            let spec = dir.path().join(spec).to_str().unwrap().to_owned();
            let files =
                files(&Place::of(&spec, PixelLabels::default()), Kind::Shard, split).map(Option::unwrap_or_default);
            files.map(|f| f.iter().map(|p| p.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned()).collect())
        };
        let is = |spec: &str, split, expected: &[&str]| {
            let got: Vec<String> = found(spec, split).unwrap();
            assert_eq!(got, expected, "{spec} {split}");
        };
        let names = ["im-train-00-of-02.tar", "im-train-01-of-02.tar", "im-validation-00.tar", "im-test-00.tar"];
        names.iter().for_each(|name| put(&dir.path().join("one").join(name), b""));
        let one = names.map(|name| format!("one/{name}"));
        let one: Vec<&str> = one.iter().map(String::as_str).collect();
        is("one", Split::Train, &one[..2]);
        is("one", Split::Test, &one[2..3]);
        is("one/im-train-{00..01}-of-02.tar", Split::Train, &one[..2]);
        is("one/im-train-{00..01}-of-02.tar", Split::Test, &one[2..3]);
        is("one/im-test-00.tar", Split::Train, &one[3..]);
        is("one/im-test-{00..00}.tar", Split::Test, &one[3..]);
        ["train/0.tar", "val/0.tar"].iter().for_each(|name| put(&dir.path().join("two").join(name), b""));
        is("two", Split::Train, &["two/train/0.tar"]);
        is("two", Split::Test, &["two/val/0.tar"]);
        put(&dir.path().join("three/000.tar"), b"");
        is("three", Split::Train, &["three/000.tar"]);
        let missing: Result<Vec<String>, DataError> = found("three", Split::Test);
        assert!(missing.unwrap_err().to_string().contains("has no test split"));
        let gone: Result<Vec<String>, DataError> = found("one/im-train-{00..05}-of-02.tar", Split::Train);
        let gone = gone.unwrap_err().to_string();
        assert!(gone.contains("4 of the 6 files") && gone.contains("im-train-02-of-02.tar"), "{gone}");
    }
}

//! A text file that lists images, one line for each: Caffe's `train.txt` and its relatives.
use super::decode::{decode, is_image_name};
use super::layout::{Found, Layout, Place};
use super::listing::split_of;
use super::numbering::{Class, Numbering, by_numbering, numbered};
use crate::data::sample::Sample;
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;
use std::fs;
use std::path::{Path, PathBuf};

/// Paths and classes in a text file.
pub(crate) const LAYOUT: Layout = Layout {
    name: "list",
    help: "a .txt, .lst, .tsv or .csv file with the path of an image and its class on each line, or a path alone; \
           val.txt or test.txt beside train.txt is the test split",
    open,
};

const ENDINGS: [&str; 5] = [".txt", ".lst", ".list", ".tsv", ".csv"];

fn open(place: &Place, split: Split) -> Found {
    if !place.is_file_named(|name| ENDINGS.iter().any(|ending| name.ends_with(ending))) {
        return Ok(None);
    }
    let path = match split {
        Split::Train => Some(place.path.to_owned()),
        Split::Test => test_list(place.path),
    };
    if !is_list(place.path)? {
        return Ok(None);
    }
    let Some(path) = path else {
        let found = "no val.txt or test.txt lies beside it".to_owned();
        return Err(DataError::NoSplit { path: place.path.to_owned(), split: split.name(), found });
    };
    Ok(Some(Box::new(List::open(&path)?)))
}

/// The images of a list.
pub(crate) struct List {
    path: PathBuf,
    /// Where relative paths begin.
    folder: PathBuf,
    text: String,
    /// Where the path of each image ends and begins in `text`.
    images: Vec<(usize, usize)>,
    numbering: Numbering,
}

/// The list of the test split: `path` itself if it is named like one, else the one beside it.
fn test_list(path: &Path) -> Option<PathBuf> {
    let (stem, ending) = (path.file_stem()?.to_str()?, path.extension()?.to_str()?);
    let word = |text: &str| split_of(text).map(|(split, _)| split);
    let mut words = stem.split(|c: char| !c.is_ascii_alphabetic());
    let own = words.find(|text| word(text).is_some())?;
    if word(own) == Some(Split::Test) {
        return Some(path.to_owned());
    }
    let names = ["val", "valid", "validation", "test", "testing"];
    names
        .map(|name| path.with_file_name(format!("{}.{ending}", stem.replacen(own, name, 1))))
        .into_iter()
        .find(|p| p.is_file())
}

/// The path and the class on a line; the class is missing if the line is a path alone.
fn apart(line: &str, ending: &str) -> (usize, Option<(usize, usize)>) {
    let at = match ending {
        "csv" => line.rfind(','),
        _ if line.contains('\t') => line.rfind('\t'),
        _ => line.rfind([' ', '\t']),
    };
    match at {
        Some(at) if !is_image_name(line) => {
            let class = line[at + 1..].trim();
            let start = line.len() - line[at + 1..].trim_start().len();
            (line[..at].trim_end().len(), Some((start, start + class.len())))
        }
        _ => (line.len(), None),
    }
}

fn ending(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

/// Whether the first lines name an image. Other text files are no lists.
fn is_list(path: &Path) -> Result<bool, DataError> {
    use std::io::Read;
    let mut start = Vec::new();
    let file = fs::File::open(path).map_err(DataError::io("open", path))?;
    file.take(64 * 1024).read_to_end(&mut start).map_err(DataError::io("read", path))?;
    let start = String::from_utf8_lossy(&start);
    let ending = ending(path);
    let lines = start.lines().map(str::trim).filter(|line| !line.is_empty()).take(2);
    // the first line of a table may be a head
    Ok(lines.map(|line| &line[..apart(line, &ending).0]).any(|path| is_image_name(path.trim_matches('"'))))
}

impl List {
    fn open(path: &Path) -> Result<Self, DataError> {
        let bytes = fs::read(path).map_err(DataError::io("read", path))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count();
            DataError::format(path, format!("line {line} is not UTF-8"))
        })?;
        let ending = ending(path);
        let (mut images, mut classes): (Vec<(usize, usize)>, Vec<Class>) = Default::default();
        let mut first: Option<(usize, bool)> = None; // its line, and whether it has a class
        let mut at = 0;
        for (number, whole) in text.split_inclusive('\n').enumerate() {
            let line = whole.trim_start_matches('\u{feff}').trim();
            let start = at + whole.find(line).unwrap_or_default();
            at += whole.len();
            let (end, class) = apart(line, &ending);
            let quoted = line[..end].len() > 1 && line[..end].starts_with('"') && line[..end].ends_with('"');
            let (from, to) = if quoted { (1, end - 1) } else { (0, end) };
            let head =
                images.is_empty() && ["csv", "tsv"].contains(&ending.as_str()) && !is_image_name(&line[from..to]);
            if line.is_empty() || head {
                continue;
            }
            let (line_of_first, labeled) = *first.get_or_insert((number + 1, class.is_some()));
            if labeled != class.is_some() {
                let name = |labeled| if labeled { "a path and a class" } else { "a path alone" };
                let (got, expected) = (name(class.is_some()), name(labeled));
                let message = format!("line {} is {got}, expected {expected} as on line {line_of_first}", number + 1);
                return Err(DataError::format(path, message));
            }
            images.push((start + from, start + to));
            classes.extend(class.map(|(from, to)| Class::of_text(line[from..to].trim_matches('"'))));
        }
        if images.is_empty() {
            return Err(DataError::Empty { path: path.to_owned(), layouts: String::new() });
        }
        let line = |sample: usize| format!("image {}", sample + 1);
        let numbering = match classes.is_empty() {
            true => Numbering::none("its lines are paths alone".into()),
            false => numbered(classes, None, line).map_err(|message| DataError::format(path, message))?,
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Caffe lists the images of train/ in train.txt beside it.
        let image = &text[images[0].0..images[0].1];
        let folders = [parent.to_owned(), parent.join(path.file_stem().unwrap_or_default())];
        let Some(folder) = folders.iter().find(|folder| folder.join(image).is_file()) else {
            let message =
                format!("names {image}, which is not in {}", folders.map(|f| f.display().to_string()).join(" or "));
            return Err(DataError::format(path, format!("{message}: paths count from there")));
        };
        Ok(Self { path: path.to_owned(), folder: folder.clone(), text, images, numbering })
    }

    fn image_path(&self, index: usize) -> PathBuf {
        let (start, end) = self.images[index];
        self.folder.join(&self.text[start..end])
    }
}

impl Source for List {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn test_split(&self) -> Option<Result<Box<dyn Source>, DataError>> {
        let found = || "no val.txt or test.txt lies beside it".to_owned();
        let none = || DataError::NoSplit { path: self.path.clone(), split: Split::Test.name(), found: found() };
        let test = test_list(&self.path).ok_or_else(none).and_then(|path| Self::open(&path));
        Some(test.map(|list| Box::new(list) as Box<dyn Source>))
    }

    by_numbering!();

    fn name(&self, index: usize) -> String {
        self.image_path(index).display().to_string()
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let path = self.image_path(index);
        let bytes = fs::read(&path).map_err(DataError::io("read", &path))?;
        Ok(decode(&self.name(index), &bytes)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Dataset;
    use crate::data::testing::{png, put};

    fn open(path: &Path, split: Split) -> Result<Dataset, DataError> {
        Dataset::open(path.to_str().unwrap(), split)
    }

    fn images() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (i, name) in ["a.png", "b c.png", "deep/d.png", "train/e.png"].into_iter().enumerate() {
            put(&dir.path().join(name), &png(2, 2, [i as u8 * 10; 3]));
        }
        dir
    }

    #[test]
    fn lines_are_paths_and_classes() {
        let dir = images();
        let at = dir.path().join("a.png");
        let absolute = format!("{} 1\nb c.png 0\n", at.display());
        for (name, text, labels, classes) in [
            ("list.txt", "a.png 1\nb c.png 0\ndeep/d.png 1\n", &[1, 0, 1][..], &["0", "1"][..]),
            ("list.lst", "a.png\t2\r\nb c.png\t0\r\n\r\n", &[2, 0], &["0", "1", "2"]),
            ("list.txt", "a.png   dog\nb c.png cat\n  deep/d.png\tcat", &[1, 0, 0], &["cat", "dog"]),
            ("list.csv", "path,label\na.png,dog\n\"b c.png\",\"cat\"\n", &[1, 0], &["cat", "dog"]),
            ("list.tsv", "\u{feff}a.png\ttwo words\nb c.png\tb\n", &[1, 0], &["b", "two words"]),
            ("list.txt", "a.png\nb c.png\ndeep/d.png\n", &[], &[]),
            ("train.txt", "e.png 0\n", &[0], &["0"]),
            ("list.txt", &absolute, &[1, 0], &["0", "1"]),
        ] {
            let path = dir.path().join(name);
            put(&path, text.as_bytes());
            let set = open(&path, Split::Train).unwrap();
            let got: Vec<u32> = (0..set.len()).filter_map(|i| set.label(i)).collect();
            assert_eq!((&got[..], set.classes().len()), (labels, classes.len()), "{text}");
            assert!(set.classes().iter().eq(classes), "{:?}", set.classes());
            assert_eq!(set.image(0).unwrap().pixels[0], if name == "train.txt" { 30 } else { 0 });
            if set.len() > 1 {
                assert_eq!(set.image(1).unwrap().pixels[0], 10, "{text}");
            }
        }
    }

    #[test]
    fn the_list_beside_it_is_the_test_split() {
        let dir = images();
        put(&dir.path().join("my_train.txt"), b"a.png 0\nb c.png 1\n");
        put(&dir.path().join("alone.txt"), b"a.png 0\n");
        put(&dir.path().join("my_test.txt"), b"deep/d.png 1\n");
        let train = open(&dir.path().join("my_train.txt"), Split::Train).unwrap();
        let test = train.limited(1).unwrap().test_split().unwrap();
        assert_eq!((test.len(), test.label(0), test.image(0).unwrap().pixels[0]), (1, Some(1), 20));
        assert_eq!(open(&dir.path().join("my_test.txt"), Split::Test).unwrap().len(), 1);
        assert!(matches!(open(&dir.path().join("alone.txt"), Split::Test), Err(DataError::NoSplit { .. })));
    }

    #[test]
    fn wrong_lines_are_named() {
        let dir = images();
        let path = dir.path().join("list.txt");
        for (text, hint) in [
            (&b"a.png 0\nb c.png\n"[..], "line 2 is a path alone, expected a path and a class as on line 1"),
            (b"a.png\n\nb c.png 1\n", "line 3 is a path and a class"),
            (b"a.png 0\n\xff.png 1\n", "line 2 is not UTF-8"),
            (b"gone.png 0\n", "names gone.png, which is not in"),
            (b"a.png 4000000000\n", "class 4000000000"),
        ] {
            put(&path, text);
            let error = open(&path, Split::Train).unwrap_err().to_string();
            assert!(error.contains("list.txt") && error.contains(hint), "{error}");
        }
        put(&path, b"no picture");
        assert!(open(&path, Split::Train).unwrap_err().to_string().contains("no known layout"));
        put(&path, b"a.png 0\ngone.png 1\n");
        let set = open(&path, Split::Train).unwrap();
        assert!(set.image(1).unwrap_err().to_string().contains("gone.png"));
    }
}
